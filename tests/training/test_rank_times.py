"""Which rank holds up the others, and what the sum over ranks takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from radflow.cluster.communicator import SerialCommunicator
from radflow.training import rank_times
from radflow.training.rank_times import RankCost, RankTimes, slow_rank_warning


class FirstOf(SerialCommunicator):
    """The first of several ranks, of which a test says the others."""

    def __init__(self, others: Sequence[RankCost]) -> None:
        self.size = 1 + len(others)
        self._others = others

    def allgather(self, rows: np.ndarray) -> np.ndarray:
        lines = "".join(json.dumps(vars(other)) + "\n" for other in self._others)
        return np.concatenate([rows, np.frombuffer(lines.encode(), np.uint8)])


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> RankTimes:
    """Three steps of 1, 9 and 2 s of its own, each followed by a sum of 0.5 s."""
    now = [100.0]
    monkeypatch.setattr(rank_times.time, "perf_counter", lambda: now[0])
    times = RankTimes()
    for own in (1.0, 9.0, 2.0):
        now[0] += own
        with times.summing():
            now[0] += 0.5
    return times


def test_the_metrics_are_of_the_median_step_of_each_rank(times: RankTimes, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = times.gather(FirstOf([RankCost("node2", 2.1, 0.4, 700.0), RankCost("node3", 2.2, 0.3, 1e6)]))
    assert metrics == {
        "throughput/step_seconds": 2.1,
        "throughput/slowest_rank_seconds": 2.2,
        "throughput/allreduce_seconds": 0.3,
        "throughput/peak_mib": 1e6,
    }
    assert capsys.readouterr().err == ""


def test_a_slow_rank_is_told_once(times: RankTimes, capsys: pytest.CaptureFixture[str]) -> None:
    ranks = FirstOf([RankCost("node2", 2.0, 0.9, 700.0), RankCost("node3", 2.7, 0.1, 700.0)])
    times.gather(ranks)
    told = "rank 2 on node3 is 35% slower than the median rank: a step takes it 2.7 s, not 2 s"
    assert told in capsys.readouterr().err
    times.gather(ranks)
    assert capsys.readouterr().err == ""


def test_the_slower_one_of_two_is_told() -> None:
    first, slow, late = RankCost("a", 1.0, 0.3, 700.0), RankCost("b", 1.3, 0.0, 700.0), RankCost("b", 1.2, 0.0, 700.0)
    assert slow_rank_warning([first, slow]).startswith("rank 1 on b is 30% slower")
    assert slow_rank_warning([first, late]) == ""


def test_the_memory_of_a_rank_is_that_of_its_process(times: RankTimes) -> None:
    peak = times.gather(FirstOf([RankCost("node2", 2.0, 0.9, 1.0)]))["throughput/peak_mib"]
    status = Path("/proc/self/status").read_text(encoding="ascii")
    assert peak == pytest.approx(int(status.partition("VmHWM:")[2].split()[0]) / 1024, rel=0.02)


def test_one_rank_waits_for_nobody(times: RankTimes) -> None:
    assert times.gather(SerialCommunicator()) == {}
    times.restart()
    assert times.gather(FirstOf([RankCost("node2", 2.0, 0.9, 700.0)])) == {}
