"""Measurements of ranks whose sums follow a known law."""

from __future__ import annotations

import math

from radflow.scaling.measured import MeasuredNetwork, MeasuredStep, MeasuredSum, Measurement

SIZES = (2**12, 2**18, 2**20, 2**22, 2**24, 2**26)
GRADIENT = 40_000_000
CYCLE, COPY = 1e-3, 2e-10


def law(ranks: int, size: int, latency: float, gigabits: float) -> float:
    """An allreduce of a halving and a doubling phase, on top of Horovod's own cost."""
    own = CYCLE + COPY * size
    return own + 2 * math.log2(ranks) * latency + 2 * (ranks - 1) / ranks * size * 8 / (gigabits * 1e9)


def sums(ranks: int, latency: float, gigabits: float) -> tuple[MeasuredSum, ...]:
    return tuple(
        MeasuredSum(size, law(ranks, size, latency, gigabits) if ranks > 1 else law(1, size, 0, 1)) for size in SIZES
    )


def measurement(
    hosts: str, latency: float, gigabits: float, computing: float = 1.0, networks: str = "vgg16", local_batch: int = 16
) -> Measurement:
    """Ranks on hosts named by letters, whose link follows the law; all networks are alike."""
    network = MeasuredNetwork(GRADIENT, 0.1, (MeasuredStep(local_batch, computing, 0.05, computing + 0.3),))
    return Measurement(tuple(hosts), sums(len(hosts), latency, gigabits), dict.fromkeys(networks.split(","), network))
