"""What a step takes each rank: by itself, in the sum over ranks, where it waits for the slowest, and of memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np

from radflow.cluster.communicator import Communicator, allgather_json
from radflow.cluster.reports import this_host
from radflow.terminal import warn

SLOW = 1.2
"""How many times the time of the median rank makes a rank slow."""


@dataclass(frozen=True)
class RankCost:
    """Median seconds of a rank's steps, and its memory."""

    host: str
    own: float
    """What it does by itself: input, gradients, update."""
    summing: float
    """The sum over ranks, with the wait for those that come later."""
    peak_mib: float
    """The most memory, in MiB, that the rank has had since it began."""


class RankTimes:
    """Takes the times of the steps of an epoch on this rank."""

    def __init__(self) -> None:
        self._told: set[int] = set()
        self.restart()

    def restart(self) -> None:
        """Begin an epoch."""
        self._own: list[float] = []
        self._summing: list[float] = []
        self._since = time.perf_counter()

    @contextmanager
    def summing(self) -> Iterator[None]:
        """Mark the sum over ranks; what comes before is the rank's own."""
        started = time.perf_counter()
        self._own.append(started - self._since)
        yield
        self._since = time.perf_counter()
        self._summing.append(self._since - started)

    def gather(self, communicator: Communicator) -> dict[str, float]:
        """Metrics of the epoch's steps, on every rank; the first rank warns of a slow one, once of each."""
        if communicator.size == 1 or not self._own:
            return {}
        own = RankCost(this_host(), float(np.median(self._own)), float(np.median(self._summing)), _peak_mib())
        ranks = [RankCost(**each) for each in allgather_json(communicator, asdict(own))]
        slowest = max(range(len(ranks)), key=lambda rank: ranks[rank].own)
        if slowest not in self._told and (warning := slow_rank_warning(ranks)):
            self._told.add(slowest)
            communicator.on_first_rank(lambda: warn(warning))
        return {
            "throughput/step_seconds": _median([each.own for each in ranks]),
            "throughput/slowest_rank_seconds": ranks[slowest].own,
            # Who comes last waits for nobody.
            "throughput/allreduce_seconds": min(each.summing for each in ranks),
            "throughput/peak_mib": max(each.peak_mib for each in ranks),
        }


def slow_rank_warning(ranks: Sequence[RankCost]) -> str:
    """The slowest rank, its host and by how much it holds up the others; '' where it is not slow."""
    slowest = max(range(len(ranks)), key=lambda rank: ranks[rank].own)
    seconds, median = ranks[slowest].own, _median([each.own for each in ranks])
    if seconds <= SLOW * median:
        return ""
    return (
        f"rank {slowest} on {ranks[slowest].host} is {seconds / median - 1:.0%} slower than the median rank: a step "
        f"takes it {seconds:.3g} s, not {median:.3g} s, and all others wait for it"
    )


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _median(seconds: Sequence[float]) -> float:
    """The lower median: of two ranks, the faster one is what the other one should be like."""
    return float(np.percentile(seconds, 50, method="lower"))
