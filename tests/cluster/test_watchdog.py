"""The watchdog of a rank: whom it ends, after how long, and what it says."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from radflow.cluster import watchdog
from radflow.cluster.reports import Report, ReportReader
from radflow.cluster.watchdog import COMPUTING, CONCLUDING, STALLED, WAITING, WORKING, LostRankError, Watchdog
from radflow.errors import Interrupted, JobError, UserError

RANK = """
import sys, threading, time
from radflow.cluster.watchdog import Watchdog
watchdog = Watchdog(2, stall_seconds=0.5)

def read_films():
    threading.Event().wait()

with watchdog.watching():
    for _ in range(3):
        watchdog.heartbeat("computing gradients")
    {}
"""


def run_rank(last: str, **variables: str) -> tuple[subprocess.CompletedProcess[bytes], list[Report]]:
    line = [sys.executable, "-c", RANK.format(last)]
    process = subprocess.run(line, capture_output=True, check=False, timeout=60, env={"PYTHONPATH": ".", **variables})
    return process, ReportReader().read(process.stdout)[1]


def test_a_rank_that_waits_without_end_is_ended_and_the_launcher_is_told() -> None:
    process, reports = run_rank("watchdog.heartbeat('computing gradients'); read_films()", RADFLOW_LAUNCHED="1")
    assert process.returncode == STALLED
    assert process.stderr == b""
    assert [report.ending for report in reports[-2:]] == ["", "stalled"]
    assert reports[-1].rank == 2
    assert reports[-1].still >= 0.5
    assert reports[-1].reason.endswith("s while computing gradients")
    assert len(reports) > 5


def test_without_a_launcher_it_says_so_itself() -> None:
    process, reports = run_rank("read_films()")
    assert process.returncode == STALLED
    assert reports == []
    assert process.stderr.startswith(b"rank 2 on ")
    assert process.stderr.count(b"\n") == 1


def test_a_rank_ends_after_what_has_started_it(tmp_path: Path) -> None:
    """A daemon of mpirun that loses its connection leaves its ranks behind."""
    rank = RANK.format("import pathlib; pathlib.Path('pid').write_text(str(__import__('os').getpid())); read_films()")
    started = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {rank!r}]); time.sleep(60)"
    environment = {"PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(
        [sys.executable, "-c", started.replace("0.5", "60")], cwd=tmp_path, env=environment
    ) as parent:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.05)
        parent.kill()
    rank_id = int((tmp_path / "pid").read_text())
    with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        psutil.Process(rank_id).wait(timeout=30)
    assert not psutil.pid_exists(rank_id)


def test_a_rank_that_gets_on_is_left_alone() -> None:
    process, reports = run_rank(
        "for _ in range(20): time.sleep(0.1); watchdog.heartbeat('computing gradients')", RADFLOW_LAUNCHED="1"
    )
    assert process.returncode == 0
    assert reports[-1].ending == "done"


@pytest.mark.parametrize(
    ("error", "ending", "reason"),
    [
        (UserError("data=x is not a dataset"), "mistake", "data=x is not a dataset"),
        (JobError("the loss is not finite"), "failed", "the loss is not finite"),
        (LostRankError("another rank is gone"), "lost another", "another rank is gone"),
        (OSError(5, "Input/output error"), "system", "OSError: [Errno 5] Input/output error"),
        (FileNotFoundError("shard-0.arrow"), "crashed", "FileNotFoundError: shard-0.arrow"),
        (ZeroDivisionError("division by zero"), "crashed", "ZeroDivisionError: division by zero"),
    ],
)
def test_how_a_rank_ends_is_reported(capfdbinary, monkeypatch, error: Exception, ending: str, reason: str) -> None:
    monkeypatch.setenv("RADFLOW_LAUNCHED", "1")
    with pytest.raises(type(error)), Watchdog(1, stall_seconds=60).watching():
        raise error
    (report,) = ReportReader().read(capfdbinary.readouterr().out)[1]
    assert (report.rank, report.ending, report.reason) == (1, ending, reason)


def test_a_rank_that_ends_with_another_says_nothing(capfdbinary, monkeypatch) -> None:
    monkeypatch.setenv("RADFLOW_LAUNCHED", "1")
    with pytest.raises(SystemExit), Watchdog(1, stall_seconds=60).watching():
        sys.exit(2)
    assert capfdbinary.readouterr().out == b""


def test_a_rank_that_a_signal_has_told_to_stop_names_it(capfdbinary, monkeypatch) -> None:
    monkeypatch.setenv("RADFLOW_LAUNCHED", "1")
    with pytest.raises(Interrupted), Watchdog(0, stall_seconds=60).watching():
        raise Interrupted(15)
    _, (report,) = ReportReader().read(capfdbinary.readouterr().out)
    assert (report.ending, report.reason) == ("stopped", "SIGTERM")


def test_the_limit_follows_what_was_seen(monkeypatch) -> None:
    """Worked out by hand from the three rules: 360 s the first time, then 120 s, or four times the longest so far."""
    now = [time.monotonic()]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: now[0])
    rank = Watchdog(0, stall_seconds=120)

    def after(seconds: float, doing: str) -> float:
        now[0] += seconds
        rank.heartbeat(doing)
        return rank.limit

    assert rank.limit == 360
    assert after(100, COMPUTING) == 360
    assert after(200, WAITING) == 360
    assert after(5, WORKING) == 120
    assert after(1, COMPUTING) == 120  # the first time is no measure
    assert after(50, WAITING) == 120
    assert after(5, COMPUTING) == 200
    assert after(10, COMPUTING) == 200
    assert after(10, CONCLUDING) == float("inf")
