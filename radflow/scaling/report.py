"""What measurements predict, as tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from radflow.scaling.config import ScaleConfig
from radflow.scaling.model import Prediction, ScalingModel, SumModel
from radflow.scaling.published import PUBLISHED_SPEEDS, YARDSTICK

ENOUGH = 0.8
"""Efficiency from which on nothing needs to be done."""
MICRO_STEPS = 4
FASTER = 10
"""How many times faster the link is that would be proposed."""

MEASURED_HEADINGS = ("Network", "LBZ", "Ranks", "Step, measured", "Step, predicted", "Difference")
PREDICTED_HEADINGS = ("Network", "LBZ", "Ranks", "GBZ", "Images/s", "Epoch", "Efficiency", "Sum over ranks")
RIGHT = {"measured": "lrrrrr", "predicted": "lrrrrrrr"}


@dataclass(frozen=True)
class Curve:
    """One network with one local batch: predictions, and what was measured."""

    arch: str
    local_batch: int
    predicted: tuple[Prediction, ...]
    measured: tuple[Prediction, ...]

    @property
    def name(self) -> str:
        """The network and its local batch."""
        return f"{self.arch}, LBZ {self.local_batch}"

    def efficiency(self, step: Prediction) -> float:
        """Speed as a share of as many times that of one rank, which has nothing to wait for."""
        return step.images_per_second / (step.ranks * self.predicted[0].images_per_second)


def curves(model: ScalingModel, config: ScaleConfig) -> list[Curve]:
    """Predictions for 1, 2, 4, ... ranks up to the largest number that was asked for."""
    counts = [2**power for power in range(config.largest.bit_length()) if 2**power <= config.largest]
    return [
        Curve(
            arch,
            batch,
            tuple(model.predict(arch, batch, count) for count in counts),
            tuple(model.measured_step(arch, batch, each) for each in model.measurements),
        )
        for arch in config.networks
        for batch in config.local_batches
    ]


def measured_rows(model: ScalingModel, found: list[Curve]) -> Iterator[tuple[str, ...]]:
    """Each step that was measured as a whole, beside what is predicted from its parts."""
    for curve in found:
        for step in curve.measured:
            predicted = model.predict(curve.arch, curve.local_batch, step.ranks)
            yield (
                curve.arch,
                str(curve.local_batch),
                str(step.ranks),
                f"{step.seconds:.3f} s",
                f"{predicted.seconds:.3f} s",
                f"{predicted.seconds / step.seconds - 1:+.1%}",
            )


def predicted_rows(found: list[Curve], films: int) -> Iterator[tuple[str, ...]]:
    """What is predicted, a row for each number of ranks."""
    for curve in found:
        for step in curve.predicted:
            yield (
                curve.arch,
                str(curve.local_batch),
                f"{step.ranks:,}",
                f"{step.global_batch:,}",
                f"{step.images_per_second:,.1f}",
                in_time(films / step.images_per_second),
                f"{curve.efficiency(step):.0%}",
                f"{step.summing / step.seconds:.0%} of a step",
            )


def in_time(seconds: float) -> str:
    """Seconds, minutes or hours, whatever is read most easily."""
    for length, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def find_yardstick(found: Sequence[Curve]) -> Curve | None:
    """The curve whose first rank is what the paper's speed-ups refer to, if it was measured."""
    return next((curve for curve in found if (curve.arch, curve.local_batch) == YARDSTICK), None)


def beside_paper(found: Sequence[Curve]) -> Iterator[str]:
    """The paper's speed-ups, each beside what is predicted for that network and number of ranks."""
    yardstick = find_yardstick(found)
    if yardstick is None:
        return
    for one in PUBLISHED_SPEEDS:
        times = {
            curve.local_batch: step.images_per_second / yardstick.predicted[0].images_per_second
            for curve in found
            for step in curve.predicted
            if (curve.arch, step.ranks) == (one.arch, one.ranks)
        }
        if times:
            here = ", ".join(f"{factor:.3g} times with LBZ {batch}" for batch, factor in times.items())
            yield (
                f"{one.what}: {one.times:.3g} times as fast as DenseNet-121 with BZ 8 on one rank in the paper, "
                f"here {here}"
            )


def advice(model: ScalingModel, curve: Curve) -> str:
    """From how many ranks on a network scales badly, what limits it there, and what would help most."""
    poor = next((step for step in curve.predicted if curve.efficiency(step) < ENOUGH), None)
    if poor is None:
        return f"{curve.name}: {ENOUGH:.0%} or more up to {curve.predicted[-1].ranks:,} ranks"
    cures = _cures(model, curve, poor)
    listed = ", ".join(f"{cure} {curve.efficiency(step):.0%}" for cure, step in cures)
    return (
        f"{curve.name}: {curve.efficiency(poor):.0%} at {poor.ranks:,} ranks (GBZ {poor.global_batch:,}), limited by "
        f"{_limit(model, curve, poor)}; there would give: {listed}"
    )


def _cures(model: ScalingModel, curve: Curve, poor: Prediction) -> list[tuple[str, Prediction]]:
    """What could be done, with the step that it would give, the best first."""
    arch, batch, ranks = curve.arch, curve.local_batch, poor.ranks
    sent = model.network if ranks > model.slots else model.local
    faster = replace(sent, inverse_bandwidth=sent.inverse_bandwidth / FASTER, latency=sent.latency / FASTER)
    network = model.measurements[0].networks[arch]
    seconds = faster.seconds(ranks, network.gradient_bytes)
    cures = [
        (
            f"{MICRO_STEPS} micro-steps (GBZ {MICRO_STEPS * poor.global_batch:,})",
            model.predict(arch, batch, ranks, MICRO_STEPS),
        ),
        ("allreduce_precision=float16", model.predict(arch, batch, ranks, float16=True)),
        (f"links {FASTER} times as fast", replace(poor, summing=seconds)),
    ]
    return sorted(cures, key=lambda cure: cure[1].images_per_second, reverse=True)


def _limit(model: ScalingModel, curve: Curve, poor: Prediction) -> str:
    """The largest part of what a step takes more than that of one rank."""
    first = curve.predicted[0]
    network = model.measurements[0].networks[curve.arch]
    link = model.network if poor.ranks > model.slots else model.local
    parts = {
        "ranks that slow each other down on one machine": poor.computing - first.computing,
        **_parts_of_sum(link, poor.ranks, network.gradient_bytes),
    }
    return max(parts, key=lambda name: parts[name])


def _parts_of_sum(link: SumModel, ranks: int, size: int) -> dict[str, float]:
    """Seconds of the parts of a sum by what costs them."""
    nothing = SumModel(0.0, 0.0, 0.0, 0.0)
    parts = {
        "the bandwidth of the link": replace(nothing, inverse_bandwidth=link.inverse_bandwidth),
        "the latency of the link": replace(nothing, latency=link.latency),
        "Horovod's cycle and copies": replace(link, latency=0.0, inverse_bandwidth=0.0),
    }
    return {name: part.seconds(ranks, size) for name, part in parts.items()}


def describe_link(model: ScalingModel) -> str:
    """The links, measured or assumed, in a line."""
    local, network = model.local, model.network
    within = f"within a machine {_speed(local)}"
    between = f"between machines {_speed(network)}{' (assumed)' if model.is_assumed else ''}"
    return f"{within}; {between}"


def _speed(link: SumModel) -> str:
    return f"{link.gigabits:.3g} Gbit/s and {1000 * link.latency:.2g} ms a message"
