"""What a launcher learns of its ranks while they run, and what it says of their end."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

from radflow.cluster.launchers.mpirun_messages import MpirunMessages
from radflow.cluster.reports import Report, ReportReader
from radflow.cluster.watchdog import FIRST_TIME, LONGEST_PAUSE, REPORTS_PER_LIMIT
from radflow.errors import FAILURE, MISTAKE

SHORTEST_SILENCE = 20.0
"""Seconds that a rank may be silent at least, since importing TensorFlow holds up all threads."""
GRACE = 10.0
"""Seconds that the launching program has to end a job in, once a rank has ended itself."""

_TAIL = 16 * 2**10
_TASK_DIED = re.compile(r"srun: error: (\S+): task(s? \S+): (?!Exited|Terminated|Cancelled)(.+)")


@dataclass(frozen=True)
class JobEnd:
    """How the ranks of a job ended."""

    code: int
    """Exit code of the launching program, negative for a signal; never 0 where ranks did not come to their end."""
    reason: str
    """Which rank ended the job, and why, in one line; '' where that is not known."""
    may_recover: bool
    """Whether starting the ranks again may help: they ran, and no rank ended by a mistake or a fault of its own."""
    stopped_by: signal.Signals | None = None
    """The signal by which somebody else has told the ranks to stop, as Slurm does when it preempts a job."""
    messages: str = ""
    """What mpirun has said of the end, where the reason is not known."""


@dataclass(frozen=True)
class _Heard:
    report: Report
    at: float


class JobWatch:
    """Takes in the output of a job of `ranks` ranks, and finds those that do not get on.

    Without `stall_seconds` (0) the job may take as long as it likes.
    """

    def __init__(self, ranks: int, stall_seconds: float) -> None:
        self._ranks = ranks
        self._stall_seconds = stall_seconds
        self._started = time.monotonic()
        self._reader = ReportReader()
        self._heard: dict[int, _Heard] = {}
        self._endings: list[_Heard] = []
        self._silent: list[str] = []
        self._stopped_by: signal.Signals | None = None
        self._errors = b""
        self._mpirun = MpirunMessages()

    def take_output(self, output: bytes) -> bytes:
        """Take the reports out of what ranks have written to stdout; returns what a person may see."""
        shown, reports = self._reader.read(output)
        for report in reports:
            heard = _Heard(report, time.monotonic())
            self._heard[report.rank] = heard
            if report.ending == "stopped" and not (self._endings or self._silent or _TASK_DIED.search(self._said)):
                self._stopped_by = signal.Signals[report.reason]
            if report.ending:
                self._endings.append(heard)
        return shown

    def take_errors(self, output: bytes) -> bytes:
        """Take mpirun's messages out of what was written to stderr; returns what a person may see."""
        shown = self._mpirun.take(output)
        self._errors = (self._errors + shown)[-_TAIL:]
        return shown

    def must_end(self) -> bool:
        """Whether ranks do not get on, and the launching program has not noticed."""
        if not self._stall_seconds:
            return False
        now = time.monotonic()
        self._silent = self._silent or self._silent_ranks(now)
        stalled = (ending.at for ending in self._endings if ending.report.ending == "stalled")
        return bool(self._silent) or now - min(stalled, default=now) > GRACE

    def end(self, code: int) -> JobEnd:
        """What is to be said of a job that has ended with this code."""
        kinds = {ending.report.ending for ending in self._endings}
        if code == 0 and self._heard and (self._mpirun.lost_hosts() or "done" not in kinds):
            code = FAILURE  # mpirun ends with 0 when it has lost a host
        may_recover = bool(code and self._heard) and code != MISTAKE and not kinds & {"mistake", "failed", "crashed"}
        reason = self._reason() if code else ""
        stopped_by = None if self._mpirun.loss() else self._stopped_by
        return JobEnd(code, reason, may_recover, stopped_by, "" if reason else self._mpirun.text)

    @property
    def _said(self) -> str:
        return self._errors.decode(errors="replace")

    @property
    def _longest_silence(self) -> float:
        return max(self._stall_seconds, SHORTEST_SILENCE)

    def _silent_ranks(self, now: float) -> list[str]:
        """Names of the ranks that have not been heard of for too long."""
        limit = self._longest_silence
        running = [heard for heard in self._heard.values() if not heard.report.ending]
        silent = [heard.report.name for heard in running if now - heard.at > limit]
        unheard = sorted(set(range(self._ranks)) - set(self._heard))
        if now - self._started > FIRST_TIME * limit:
            silent += [f"rank {rank}" for rank in unheard]
        return silent

    def _reason(self) -> str:
        for ending in self._endings:
            if ending.report.ending in ("mistake", "failed", "crashed", "system"):
                return f"{ending.report.name}: {ending.report.reason}"
        if loss := self._mpirun.loss():
            return loss
        if died := _TASK_DIED.search(self._said):
            return "rank{1} on {0} ended: {2}".format(*died.groups())
        return self._mpirun.aborted() or self._why_stalled()

    def _why_stalled(self) -> str:
        if self._silent:
            return f"nothing was heard of {_listed(self._silent)} for {self._longest_silence:g} s"
        stalled = [ending for ending in self._endings if ending.report.ending == "stalled"]
        if not stalled:
            return ""
        first = stalled[0]
        pause = 3 * min(LONGEST_PAUSE, self._stall_seconds / REPORTS_PER_LIMIT)
        unheard = [heard.report.name for heard in self._heard.values() if first.at - heard.at > pause]
        if unheard:
            return f"{_listed(unheard)} fell silent, and the others waited for {first.report.still:.0f} s"
        busy = [ending.report for ending in stalled if not ending.report.waits]
        busy += [heard.report for heard in self._heard.values() if not heard.report.waits]
        culprit = busy[0] if busy else first.report
        return f"{culprit.name}: {culprit.reason or f'did not get on while {culprit.doing}'}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
