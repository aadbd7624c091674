"""What a launcher makes of the reports of its ranks."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict

import pytest

from radflow.cluster.launchers import job_watch
from radflow.cluster.launchers.job_watch import JobWatch
from radflow.cluster.reports import Report
from radflow.cluster.watchdog import COMPUTING, STALLED, WAITING, WORKING

SIGNALLED = b"""--------------------------------------------------------------------------
prterun noticed that process rank 1 with PID 14560 on node h2 exited on
signal 9 (Killed).
--------------------------------------------------------------------------
"""
LOST_HOST = b"""--------------------------------------------------------------------------
PRTE has lost communication with a remote daemon.

  HNP daemon   : [prterun-h1-18290@0,0] on node h1
  Remote daemon: [prterun-h1-18290@0,2] on node h3

This is usually due to either a failure of the TCP network
connection to the node, or possibly an internal failure of
the daemon itself. We cannot recover from this failure, and
therefore will terminate the job.
--------------------------------------------------------------------------
"""
EXITED = b"""--------------------------------------------------------------------------
prterun detected that one or more processes exited with non-zero status,
thus causing the job to be terminated. The first process to do so was:

   Process name: [prterun-h1-24189@1,1]
   Exit code:    1
--------------------------------------------------------------------------
"""
ABORTED = b"""--------------------------------------------------------------------------
prterun has exited due to process rank 1 with PID 19202 on node h2 calling
"abort". This may have caused other processes in the application to be
terminated by signals sent by prterun (as reported here).
--------------------------------------------------------------------------
"""


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(job_watch.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def tell(watch: JobWatch, *reports: Report) -> None:
    for report in reports:
        assert watch.take_output(b"\x1e" + json.dumps(asdict(report)).encode() + b"\n") == b""


def rank(number: int, doing: str = WAITING, ending: str = "", reason: str = "", still: float = 1.0) -> Report:
    return Report(number, f"h{number + 1}", doing, doing == WAITING, still, ending, reason)  # type: ignore[arg-type]


def test_a_host_that_falls_silent_is_named_and_the_job_ended(clock: Clock) -> None:
    watch = JobWatch(ranks=4, stall_seconds=120)
    tell(watch, *(rank(number) for number in range(4)))
    for _ in range(24):
        clock.now += 5
        tell(watch, rank(0), rank(1), rank(3))
        assert not watch.must_end()
    clock.now += 5
    assert watch.must_end()
    end = watch.end(-15)
    assert end.reason == "nothing was heard of rank 2 on h3 for 120 s"
    assert end.may_recover


def test_ranks_that_waited_for_a_silent_one_do_not_take_the_blame(clock: Clock) -> None:
    watch = JobWatch(ranks=3, stall_seconds=120)
    tell(watch, *(rank(number) for number in range(3)))
    clock.now += 118
    for number in (0, 2):
        tell(watch, rank(number, ending="stalled", reason="no progress for 121 s", still=121))
    assert watch.end(STALLED).reason == "rank 1 on h2 fell silent, and the others waited for 121 s"
    assert not watch.must_end()
    clock.now += 11  # the launching program waits for the host that is gone
    assert watch.must_end()


@pytest.mark.parametrize("stalls_itself", [True, False])
def test_the_rank_that_does_something_else_is_the_one_that_hangs(clock: Clock, stalls_itself: bool) -> None:
    watch = JobWatch(ranks=3, stall_seconds=120)
    tell(watch, *(rank(number) for number in range(3)))
    stalled = {"ending": "stalled", "reason": "no progress for 121 s while working alone (read, shards.py:7)"}
    tell(watch, rank(0, ending="stalled", reason="no progress for 121 s while waiting for other ranks", still=121))
    tell(watch, rank(1, WORKING, still=121, **stalled if stalls_itself else {}))
    expected = stalled["reason"] if stalls_itself else "did not get on while working alone"
    assert watch.end(STALLED).reason == f"rank 1 on h2: {expected}"


def test_what_ended_the_job_is_told_and_whether_another_start_may_help(clock: Clock) -> None:
    del clock
    cases = [
        ([rank(1, ending="mistake", reason="data=x is not there")], b"", 2, "rank 1 on h2: data=x is not there", False),
        ([rank(1, ending="failed", reason="not finite")], b"", 1, "rank 1 on h2: not finite", False),
        ([rank(1, ending="crashed", reason="KeyError: 1")], b"", 1, "rank 1 on h2: KeyError: 1", False),
        ([rank(1, ending="system", reason="OSError: 5")], b"", 1, "rank 1 on h2: OSError: 5", True),
        ([rank(0, ending="lost another")], SIGNALLED, 137, "rank 1 on h2 was ended by signal 9 (Killed)", True),
        ([rank(0)], LOST_HOST, 1, "the connection to h3 is lost", True),
        ([rank(0), rank(1)], ABORTED, 14, "rank 1 on h2 has lost the connection to another rank", True),
        ([rank(0)], b"", 1, "", True),
        ([], b"mpirun: no such host", 1, "", False),  # no rank ever ran
        ([rank(0, ending="done"), rank(1, ending="done")], b"", 0, "", False),
    ]
    for reports, errors, code, reason, may_recover in cases:
        watch = JobWatch(ranks=2, stall_seconds=120)
        tell(watch, *reports)
        assert watch.take_errors(errors) == (b"" if errors.startswith(b"-----") else errors)
        end = watch.end(code)
        assert (end.reason, end.may_recover, end.messages) == (reason, may_recover, "")


def test_what_mpirun_says_is_shown_where_it_alone_says_anything() -> None:
    watch = JobWatch(ranks=2, stall_seconds=120)
    assert watch.take_errors(EXITED) == b""
    end = watch.end(1)
    assert (end.reason, end.messages) == ("", EXITED.decode())


@pytest.mark.parametrize(("reports", "errors"), [([rank(0)], b""), ([rank(0), rank(1, ending="done")], LOST_HOST)])
def test_an_exit_code_of_0_is_no_success_where_ranks_did_not_come_to_their_end(
    clock: Clock, reports: list[Report], errors: bytes
) -> None:
    """mpirun exits with 0 when it has lost a host."""
    del clock
    watch = JobWatch(ranks=2, stall_seconds=120)
    tell(watch, *reports)
    watch.take_errors(errors)
    end = watch.end(0)
    assert (end.code, end.may_recover) == (1, True)


def test_a_rank_that_never_speaks_is_waited_for_three_times_as_long(clock: Clock) -> None:
    watch = JobWatch(ranks=2, stall_seconds=120)
    for _ in range(72):
        clock.now += 5
        tell(watch, rank(0, COMPUTING))
        assert not watch.must_end()
    clock.now += 5
    assert watch.must_end()
    assert watch.end(-9).reason == "nothing was heard of rank 1 for 120 s"


def test_ranks_that_are_done_may_be_silent_and_jobs_without_a_limit_too(clock: Clock) -> None:
    watch = JobWatch(ranks=2, stall_seconds=120)
    tell(watch, rank(0, "concluding"), rank(1, ending="done"))
    for _ in range(100):
        clock.now += 5
        tell(watch, rank(0, "concluding"))
        assert not watch.must_end()
    silent = JobWatch(ranks=2, stall_seconds=0)
    clock.now += 10_000
    assert not silent.must_end()


def test_ranks_that_somebody_else_has_told_to_stop_have_not_failed() -> None:
    """Slurm tells the ranks of a job that it will preempt, and not their launcher."""
    watch = JobWatch(ranks=2, stall_seconds=120)
    tell(watch, rank(0, ending="stopped", reason="SIGTERM"), rank(1, ending="lost another", reason="another is gone"))
    watch.take_errors(b"srun: error: h1: task 0: Exited with exit code 143\nsrun: error: h2: task 1: Killed\n")
    assert watch.end(143).stopped_by == signal.SIGTERM


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        (SIGNALLED, "rank 1 on h2 was ended by signal 9 (Killed)"),
        (LOST_HOST, "the connection to h3 is lost"),
        (b"srun: error: h2: task 1: Killed\n", "rank 1 on h2 ended: Killed"),
        (b"srun: error: h2: tasks 1-2: Out Of Memory\n", "ranks 1-2 on h2 ended: Out Of Memory"),
    ],
)
def test_a_rank_that_is_told_to_stop_since_another_has_died_was_not_stopped(errors: bytes, reason: str) -> None:
    watch = JobWatch(ranks=3, stall_seconds=120)
    if errors.startswith(b"srun"):  # which tells of a death when it happens, and mpirun at the end
        watch.take_errors(errors)
    tell(watch, rank(0, ending="stopped", reason="SIGTERM"))
    if not errors.startswith(b"srun"):
        watch.take_errors(errors)
    end = watch.end(143)
    assert end.stopped_by is None
    assert (end.reason, end.may_recover) == (reason, True)


def test_a_rank_that_is_told_to_stop_since_another_hangs_was_not_stopped() -> None:
    watch = JobWatch(ranks=2, stall_seconds=120)
    tell(watch, rank(1, ending="stalled", reason="no progress for 120 s"), rank(0, ending="stopped", reason="SIGTERM"))
    end = watch.end(STALLED)
    assert end.stopped_by is None
    assert end.may_recover
