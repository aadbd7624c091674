"""What training would take on more ranks than there are: a model of the sum over ranks, fitted to what was measured.

The seconds of a sum of n bytes over P ranks are taken to be

    c0 + c1 n + latency 2 log2(P) + 2 (P - 1) / P n / bandwidth

which is the cost of an allreduce that scatters sums and gathers them again (Thakur, Rabenseifner and Gropp 2005,
doi:10.1177/1094342005051521), and Horovod's own: its cycle, and the copies into and out of its buffers. A step takes
what the slowest rank needs for its gradients, the sum, and the update.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from radflow.scaling.measured import MeasuredNetwork, MeasuredStep, MeasuredSum, Measurement


@dataclass(frozen=True)
class SumModel:
    """Seconds of a sum over ranks that are joined by one kind of link."""

    fixed: float
    """Seconds of any sum."""
    byte: float
    """Seconds a byte, for the copies."""
    latency: float
    """Seconds of a message."""
    inverse_bandwidth: float
    """Seconds a byte on the link."""

    def seconds(self, ranks: int, size: float) -> float:
        """Seconds in which `size` bytes are summed over `ranks`."""
        coefficients = (self.fixed, self.byte, self.latency, self.inverse_bandwidth)
        return float(np.dot(_terms(ranks, size), coefficients))

    @property
    def gigabits(self) -> float:
        """Bandwidth in Gbit/s; infinite where the copies hide the link."""
        return 8e-9 / self.inverse_bandwidth if self.inverse_bandwidth else math.inf


def _terms(ranks: int, size: float) -> tuple[float, ...]:
    return 1.0, size, 2 * math.log2(ranks), 2 * (ranks - 1) / ranks * size


def fit_sums(measured: Iterable[tuple[int, MeasuredSum]]) -> SumModel:
    """The model with the least mean relative error over the measured sums; no cost is negative.

    Errors count as they are and not squared: small messages that a link's buffers let through at once would draw the
    bandwidth away from that of the large ones, of which gradients are.
    """
    points = list(measured)
    seconds = np.array([each.seconds for _, each in points])
    terms = np.array([_terms(ranks, each.bytes) for ranks, each in points]) / seconds[:, None]
    # Of about 1 each, since bytes are millions: else the solver takes the small ones for nothing.
    scale = np.maximum(terms.max(axis=0), 1e-30)
    # The coefficients, and an error of each sum that its difference from 1 on either side does not exceed.
    sides, errors = np.vstack([terms / scale, -terms / scale]), np.tile(np.eye(len(points)), (2, 1))
    costs = np.repeat([0.0, 1.0], [len(scale), len(points)])
    fitted = linprog(costs, np.hstack([sides, -errors]), np.repeat([1.0, -1.0], len(points)), bounds=(0, None))
    return SumModel(*(fitted.x[: len(scale)] / scale))


@dataclass(frozen=True)
class Prediction:
    """A step on a number of ranks."""

    ranks: int
    local_batch: int
    computing: float
    """Seconds of the gradients, all micro-steps together."""
    summing: float
    """Seconds of the sum over ranks."""
    updating: float
    """Seconds of the update."""
    micro_steps: int = 1

    @property
    def seconds(self) -> float:
        """Seconds of the step."""
        return self.computing + self.summing + self.updating

    @property
    def global_batch(self) -> int:
        """Films of the step."""
        return self.ranks * self.local_batch * self.micro_steps

    @property
    def images_per_second(self) -> float:
        """Films of all ranks a second."""
        return self.global_batch / self.seconds


class ScalingModel:
    """Predicts steps from what some numbers of ranks have measured.

    Up to `slots` ranks share a machine. Between machines the link is the measured one, or where all ranks that measured
    were on one machine, one of so many `gigabits` a second and seconds of `latency`.
    """

    def __init__(self, measurements: Sequence[Measurement], slots: int, gigabits: float, latency: float) -> None:
        self.measurements = sorted(measurements, key=lambda each: each.ranks)
        self.slots = slots
        single = [each for each in self.measurements if each.machines == 1]
        several = [each for each in self.measurements if each.machines > 1]
        self.local = fit_sums(_sums_of(single))
        self.is_assumed = not several
        if several:
            self.network = fit_sums(_sums_of([*single[:1], *several]))
        else:
            local = self.local
            self.network = SumModel(local.fixed, local.byte, latency, 8e-9 / gigabits)

    def summing(self, ranks: int, size: float) -> float:
        """Seconds of a sum over so many ranks."""
        link = self.local if ranks <= self.slots and self._machines(ranks) == 1 else self.network
        return link.seconds(ranks, size)

    def predict(
        self, arch: str, local_batch: int, ranks: int, micro_steps: int = 1, float16: bool = False
    ) -> Prediction:
        """A step of a network; `float16` sends the gradients as such."""
        like = self._most_like(ranks)
        network = like.networks[arch]
        step = _step_of(network, local_batch)
        size = network.gradient_bytes
        summing = self.summing(ranks, size)
        if float16:
            # What was measured has the conversions, and the slower addition of float16, in it.
            extra = network.summing_as_float16 - self.summing(like.ranks, size / 2)
            summing = self.summing(ranks, size / 2) + max(extra, 0.0)
        return Prediction(ranks, local_batch, micro_steps * step.computing, summing, step.updating, micro_steps)

    def measured_step(self, arch: str, local_batch: int, measurement: Measurement) -> Prediction:
        """A whole step as it was measured, in the place of a prediction: what is no computing is summing."""
        step = _step_of(measurement.networks[arch], local_batch)
        rest = step.whole - step.computing - step.updating
        return Prediction(measurement.ranks, local_batch, step.computing, rest, step.updating)

    def _most_like(self, ranks: int) -> Measurement:
        """What was measured with as many ranks, or with the most of them that are fewer."""
        return [each for each in self.measurements if each.ranks <= ranks][-1]

    def _machines(self, ranks: int) -> int:
        same = [each.machines for each in self.measurements if each.ranks == ranks]
        return same[0] if same else math.ceil(ranks / self.slots)


def _sums_of(measurements: Iterable[Measurement]) -> list[tuple[int, MeasuredSum]]:
    return [(each.ranks, one) for each in measurements for one in each.sums]


def _step_of(network: MeasuredNetwork, local_batch: int) -> MeasuredStep:
    return next(step for step in network.steps if step.local_batch == local_batch)
