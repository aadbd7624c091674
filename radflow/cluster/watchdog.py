"""A thread of each rank that ends the rank when it does not get on, which needs no network.

A rank that dies in silence, a host that is cut off, or a read that never returns leaves all others waiting in a sum
over ranks that never comes: Horovod and MPI wait without end.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

from radflow.cluster.launchers.started_ranks import was_launched
from radflow.cluster.reports import Ending, Report, this_host, write_report
from radflow.errors import Interrupted, JobError, UserError
from radflow.processes import kill_later

STALLED = 75
"""Exit code of a rank that did not get on: EX_TEMPFAIL of sysexits.h, since another try may succeed."""
FIRST_TIME = 3
"""How many times longer something may take when it is done for the first time: graphs are traced then."""
SLOWER = 4
"""How many times longer than ever before something may take, where that is more than the limit."""
REPORTS_PER_LIMIT = 10
LONGEST_PAUSE = 5.0
"""Seconds between two reports, at most."""

ORPHAN_SECONDS = 10.0
"""What a rank has to end in when its parent is gone: less than other ranks need to start in its place."""

DAEMON_SECONDS = 30.0
"""What the daemon that has started ranks on another host has to end in: more than a launcher needs to end a job."""

WORKING = "working alone"
COMPUTING = "computing gradients"
PREDICTING = "predicting films"
WAITING = "waiting for other ranks"
CONCLUDING = "concluding"
"""The first rank alone assesses and logs; no other rank waits for it, so there is no limit."""

_UNFORESEEN = ("crashed", "system")


class LostRankError(Exception):
    """An operation over ranks failed because another rank is gone."""


class Watchdog:
    """Reports how this rank gets on, and ends it when it has not for `stall_seconds`.

    The limit is never below some times the longest that the same was seen to take.
    """

    def __init__(self, rank: int, stall_seconds: float, before_ending: Callable[[str], None] | None = None) -> None:
        """Where no launcher is there to tell, `before_ending` gets the reason before the process is ended."""
        self._rank = rank
        self._stall_seconds = stall_seconds
        self._before_ending = before_ending
        self._longest: dict[str, float] = {}
        self._doing, self._since = WORKING, time.monotonic()
        self._main_thread = threading.get_ident()
        self._ended = threading.Event()
        self._parent = os.getppid()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the block lasts, and report how it ended."""
        self._thread.start()
        try:
            yield
        except BaseException as error:
            self._ended.set()
            if ending := _ending_of(error):
                self.report(ending, _reason_of(error, ending))
            raise
        self._ended.set()
        self.report("done")

    def heartbeat(self, doing: str) -> None:
        """Take note that the rank has got on, and what it does next."""
        now = time.monotonic()
        longest = self._longest.get(self._doing)
        self._longest[self._doing] = 0.0 if longest is None else max(longest, now - self._since)
        self._doing, self._since = doing, now

    @property
    def limit(self) -> float:
        """Seconds that what the rank is doing may take."""
        if self._doing == CONCLUDING:
            return math.inf
        if self._doing not in self._longest:
            return FIRST_TIME * self._stall_seconds
        return max(self._stall_seconds, SLOWER * self._longest[self._doing])

    def report(self, ending: Ending = "", reason: str = "") -> None:
        """Tell the launcher how the rank gets on, or why it ends; where there is none, why it ends, on stderr."""
        still = round(time.monotonic() - self._since, 1)
        report = Report(self._rank, this_host(), self._doing, self._doing == WAITING, still, ending, reason)
        if was_launched():
            write_report(report)
        elif ending in ("stalled", "lost another"):  # of all else the process itself tells
            sys.stderr.write(f"{report.name}: {reason}\n")
            sys.stderr.flush()

    def _watch(self) -> None:
        pause = min(LONGEST_PAUSE, self._stall_seconds / REPORTS_PER_LIMIT)
        next_report = time.monotonic() + pause
        while not self._ended.wait(min(pause, 1.0)):
            if os.getppid() != self._parent:
                self._end_as_orphan()
            still, limit = time.monotonic() - self._since, self.limit
            if still > limit:
                self._end(f"no progress for {still:.0f} s while {self._doing}{self._place()}")
            if time.monotonic() >= next_report:
                self.report()
                next_report += pause

    def _end_as_orphan(self) -> None:
        """End after the process that has started this one: it may have been cut off, or been killed outright."""
        os.kill(os.getpid(), signal.SIGTERM)  # the first rank writes a checkpoint, if it waits for no other
        time.sleep(ORPHAN_SECONDS)
        self._end("what has started it is gone")

    def _end(self, reason: str) -> None:
        self.report("stalled", reason)
        if self._before_ending and not was_launched():
            self._before_ending(reason)
        with suppress(psutil.Error):
            _end_daemon_later(psutil.Process(self._parent))
        os._exit(STALLED)  # the main thread may be where no exception reaches it

    def _place(self) -> str:
        """Where in radflow the main thread is; '' where that is not known."""
        frame: FrameType | None = sys._current_frames().get(self._main_thread)
        package = str(Path(__file__).resolve().parent.parent)
        while frame and not frame.f_code.co_filename.startswith(package):
            frame = frame.f_back
        return f" ({frame.f_code.co_name}, {Path(frame.f_code.co_filename).name}:{frame.f_lineno})" if frame else ""


def _end_daemon_later(parent: psutil.Process) -> None:
    """See to the end of mpirun's daemon if nobody else does.

    On a host that is cut off it waits until TCP gives up what it has sent, for a quarter of an hour.
    """
    if parent.name() == "prted":
        kill_later(parent, DAEMON_SECONDS)


def _ending_of(error: BaseException) -> Ending:
    if isinstance(error, Interrupted):
        return "stopped"
    if isinstance(error, KeyboardInterrupt | SystemExit):  # the rank that failed tells why
        return ""
    kinds: tuple[tuple[type[BaseException], Ending], ...] = (
        (UserError, "mistake"),
        (JobError, "failed"),
        (LostRankError, "lost another"),
        # A file that is not there will not be there the next time.
        (FileNotFoundError, "crashed"),
        (FileExistsError, "crashed"),
        (NotADirectoryError, "crashed"),
        (PermissionError, "crashed"),
        (OSError, "system"),
    )
    return next((ending for kind, ending in kinds if isinstance(error, kind)), "crashed")


def _reason_of(error: BaseException, ending: Ending) -> str:
    if isinstance(error, Interrupted):
        return error.signal.name
    return f"{type(error).__name__}: {error}" if ending in _UNFORESEEN else f"{error}"
