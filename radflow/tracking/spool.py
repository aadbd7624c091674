"""What waits for the tracking server: records and files of a run, kept on disk through an outage.

A run's folder `<spool>/<run id>/` holds `run.json` (where the run lives), `records.jsonl` (what waits, oldest first)
and `files/` (artefacts not yet uploaded). It is removed when nothing waits. Every record can be sent twice without
harm: metric points carry their time and step, and MLflow keeps one of two equal points.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from radflow.errors import UserError
from radflow.files import append_lines, atomic_file, read_json
from radflow.locks import lock_at_once

SPOOL_FOLDER = Path("runs/spool")

Record = dict[str, Any]
"""One thing to send: `kind` (metrics, params, tags, artifact, dataset, model, status) and what that kind needs."""

Deliver = Callable[[Record], None]

# MLflow takes at most this many metric points in one request.
_POINTS_PER_REQUEST = 1000

_logger = logging.getLogger(__name__)


class RefusedError(Exception):
    """The server answered and said no: sending the record again cannot help."""


@dataclass(frozen=True)
class RunAddress:
    """Address of a run: its server and its id."""

    tracking_uri: str
    run_id: str

    @classmethod
    def read(cls, description: Path) -> RunAddress:
        """Read the `run.json` of a run's folder; raises UserError for one that is damaged or of another run."""
        try:
            address = cls(**read_json(description))
            if not isinstance(address.tracking_uri, str) or address.run_id != description.parent.name:
                raise ValueError(f"it names the run {str(address.run_id)[:40]!r}")
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{description} is damaged ({error}); write the tracking_uri and run_id of the run into it as JSON, or "
                "delete the folder"
            ) from error
        return address


class Spool:
    """One run's folder of what waits, held by one process at a time.

    Raises BlockingIOError at creation while another process holds it.
    """

    def __init__(self, folder: Path, address: RunAddress) -> None:
        self.folder = (folder / address.run_id).absolute()
        self.address = address
        (self.folder / "files").mkdir(parents=True, exist_ok=True)
        self._lock = _hold(self.folder / "lock")
        self._records = self.folder / "records.jsonl"
        # It may name a password, as the tracking URI can.
        with atomic_file(self.folder / "run.json") as temporary:
            _write_private(temporary, json.dumps(asdict(address)))
        self._files = max((int(file.name) for file in (self.folder / "files").iterdir()), default=0)

    def read(self) -> list[Record]:
        """Return what waits, oldest first; a line that a power cut left incomplete is skipped with a warning."""
        if not self._records.exists():
            return []
        records = []
        lines = self._records.read_text(encoding="utf-8", errors="replace").split("\n")
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            try:
                records.append(_parse(line))
            except (ValueError, RecursionError):
                _logger.warning("%s: line %d is damaged and is skipped", self._records, number)
        return records

    def append(self, records: Iterable[Record]) -> None:
        """Add records at the end, durably."""
        append_lines(self._records, map(json.dumps, records))

    def replace(self, records: list[Record]) -> None:
        """Let exactly these records wait."""
        if records:
            with atomic_file(self._records) as temporary:
                temporary.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
        else:
            self._records.unlink(missing_ok=True)

    def new_file(self, name: str) -> tuple[Path, str]:
        """Make an unused path for a file called `name`, and the same path relative to the spool as records store it."""
        self._files += 1
        relative = f"files/{self._files:05d}/{name}"
        path = self.folder / relative
        path.parent.mkdir(parents=True)
        return path, relative

    def forget_file(self, relative: str) -> None:
        """Remove a file (or folder) that `new_file` gave."""
        shutil.rmtree((self.folder / relative).parent, ignore_errors=True)

    def close(self, keep: bool) -> None:
        """Let go of the folder, and remove it unless something in it waits."""
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def drop_refused(record: Record, refusal: RefusedError) -> None:
    """Warn that a record is lost, since the server will never take it."""
    _logger.warning("MLflow refused a record of kind %s, which is dropped: %s", record["kind"], refusal)


def send_in_order(
    records: list[Record], deliver: Deliver, on_refusal: Callable[[Record, RefusedError], None] = drop_refused
) -> tuple[list[Record], Exception | None]:
    """Hand records to `deliver`, oldest first; return those that must wait on, and the first failure.

    A store that does not answer stops everything. Artefacts that cannot be uploaded only hold up other artefacts:
    metrics and the final status go past them.
    """
    waiting: list[Record] = []
    failure: Exception | None = None
    store_answers = files_go = True
    for record in merge_metrics(records):
        carries_files = record["kind"] in ("artifact", "model")
        if not store_answers or (carries_files and not files_go):
            waiting.append(record)
            continue
        try:
            deliver(record)
        except RefusedError as refusal:
            on_refusal(record, refusal)
        except Exception as error:  # noqa: BLE001 - any client's failure (HTTP, database, S3) means: keep it, try later
            waiting.append(record)
            failure = failure or error
            store_answers = store_answers and carries_files
            files_go = False
    return waiting, failure


def merge_metrics(records: Iterable[Record]) -> Iterator[Record]:
    """Yield the same records, neighbouring metric records joined up to the size of one request."""
    points: list[Any] = []
    for record in records:
        if record["kind"] == "metrics":
            points.extend(record["points"])
            continue
        yield from _metric_records(points)
        points = []
        yield record
    yield from _metric_records(points)


def status_record(status: str, reason: str, replaces: Sequence[str] = ()) -> Record:
    """Make the record of how and when a run ended; where `replaces` names any, other statuses than those stay."""
    end_time = int(time.time() * 1000)
    return {
        "kind": "status",
        "status": status,
        "reason": reason,
        "end_time": end_time,
        "replaces": list(replaces),
    }


def root_cause(error: BaseException) -> str:
    """Find the innermost reason of a chain of wrapped errors, in one line: 'Connection refused' and the like."""
    while True:
        inner = error.__cause__ or error.__context__ or getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return text.partition("\n")[0][:300]


def _metric_records(points: list[Any]) -> Iterator[Record]:
    for start in range(0, len(points), _POINTS_PER_REQUEST):
        yield {"kind": "metrics", "points": points[start : start + _POINTS_PER_REQUEST]}


def _parse(line: str) -> Record:
    record = json.loads(line)
    if not isinstance(record, dict) or "kind" not in record:
        raise ValueError("not a record")
    if record["kind"] == "metrics" and not isinstance(record.get("points"), list):
        raise ValueError("a record of metrics without points")
    return record


def _hold(path: Path) -> IO[str]:
    """Open and lock a file until it is closed or the process ends, however it ends."""
    file = path.open("a")
    try:
        lock_at_once(file)
    except BaseException:
        file.close()
        raise
    return file


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
