"""The background thread that takes records off the training step's path and sends them, through outages too."""

from __future__ import annotations

import logging
import queue
import threading
import time

from radflow.tracking.spool import Deliver, Record, Spool, root_cause, send_in_order

_LONGEST_WAIT = 60.0

_logger = logging.getLogger(__name__)


class Sender:
    """Sends one run's records in order; a server that fails costs a warning and disk space, never an exception.

    Args:
        deliver: sends one record; raises RefusedError if the server declined it, and anything else to be called again.
        spool: where records wait on disk during an outage.
        first_wait: seconds from the first failure to the second attempt; each further wait is twice as long, up to 60.
    """

    def __init__(self, deliver: Deliver, spool: Spool, first_wait: float = 1.0) -> None:
        self._deliver = deliver
        self._spool = spool
        self._first_wait = self._wait = first_wait
        self._retry_at = 0.0
        self._on_disk = False
        self._given_up = False
        self._urgent = False
        # A SimpleQueue because its put() cannot be torn: a signal that raises inside a lock's `with` could leave the
        # lock held for ever.
        self._queue: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._disk = threading.Lock()
        # What an earlier process of the same run could not send goes first; how that process ended no longer counts.
        self._waiting = [record for record in spool.read() if record["kind"] != "status"]
        self._outage = bool(self._waiting)
        self._write(self._waiting)
        self._thread = threading.Thread(target=self._work, name="radflow-tracking", daemon=True)
        self._thread.start()

    def put(self, record: Record) -> None:
        """Hand over a record: microseconds, whatever the server does."""
        self._queue.put(record)

    def close(self, status: Record, patience: float, urgent: bool = False) -> int:
        """Send all that waits, then `status` (before all else if `urgent`); return how many records wait on on disk.

        There is one attempt, given up after `patience` seconds. A hanging request cannot hold the process.
        """
        self._urgent = urgent
        self._queue.put(status)
        self._queue.put(None)
        self._thread.join(patience)
        if self._thread.is_alive():
            with self._disk:
                self._given_up = True
                self._waiting += [record for record in self._queued() if record is not None]
                self._write(self._waiting)
        return len(self._waiting)

    def _work(self) -> None:
        closing = False
        while not closing:
            arrived = self._wait_for_records()
            closing = None in arrived
            self._keep([record for record in arrived if record is not None], closing)
            if self._waiting and (closing or time.monotonic() >= self._retry_at):
                self._send()

    def _wait_for_records(self) -> list[Record | None]:
        """All records that arrived: at least one, except in an outage, where the time of the next attempt ends it."""
        timeout = max(0.0, self._retry_at - time.monotonic()) if self._waiting else None
        try:
            first = self._queue.get(timeout=timeout)
        except queue.Empty:
            return []
        return [first, *self._queued()]

    def _queued(self) -> list[Record | None]:
        records: list[Record | None] = []
        while True:
            try:
                records.append(self._queue.get_nowait())
            except queue.Empty:
                return records

    def _keep(self, records: list[Record], closing: bool) -> None:
        """Add records to what waits; on disk too, in an outage and before the last attempt."""
        with self._disk:
            if closing and self._urgent:
                self._waiting = records[-1:] + self._waiting + records[:-1]
            else:
                self._waiting = self._waiting + records
            if closing or self._given_up:
                self._write(self._waiting)
            elif self._outage and records:
                self._write(records, at_the_end=True)

    def _send(self) -> None:
        waiting, failure = send_in_order(self._waiting, self._deliver)
        with self._disk:
            if self._given_up:
                return
            if failure is not None or self._on_disk:
                self._write(waiting)
            self._waiting = waiting
        if failure is None:
            if self._outage:
                _logger.warning("MLflow answers again; the records that waited are sent")
            self._outage, self._wait = False, self._first_wait
            return
        if not self._outage:
            _logger.warning(
                "MLflow does not answer (%s); records wait in %s, training goes on",
                root_cause(failure),
                self._spool.folder,
            )
        self._outage = True
        self._retry_at = time.monotonic() + self._wait
        self._wait = min(2 * self._wait, _LONGEST_WAIT)

    def _write(self, records: list[Record], at_the_end: bool = False) -> None:
        try:
            if at_the_end:
                self._spool.append(records)
            else:
                self._spool.replace(records)
            self._on_disk = bool(records)
        except OSError as error:
            # A full disk must not stop the thread: the records are still in memory.
            _logger.warning("cannot write the spool %s: %s", self._spool.folder, error)
