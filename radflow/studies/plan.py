"""What a study would train, and how long it would take, before anything starts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from radflow.errors import UserError
from radflow.scaling.folder import KeptScaling, read_scaling
from radflow.studies.cells import Cell, training_of
from radflow.studies.experiment import Arm, Protocol, Settings
from radflow.terminal import warn
from radflow.training.config import DistributedConfig, TrainingConfig
from radflow.training.plan import TrainingFilms, TrainingPlan, make_plan, plan_ranks

HEADINGS = ("Arm", "Trainings", "Ranks x LBZ x micro-steps", "Epochs x steps", "Images", "Hours")


@dataclass(frozen=True)
class PlannedArm:
    """An arm before it is trained."""

    name: str
    cells: int
    plan: TrainingPlan
    images_per_second: float
    """NaN where nothing tells."""

    @property
    def images(self) -> int:
        """Films that all its trainings go through."""
        return self.cells * self.plan.recipe.epochs * self.plan.films.count

    @property
    def hours(self) -> float:
        """Time of all its trainings, one after the other."""
        return self.images / self.images_per_second / 3600

    @property
    def row(self) -> tuple[str, ...]:
        """Its row in the table."""
        batches = self.plan.batches
        return (
            self.name,
            str(self.cells),
            f"{batches.ranks} x {batches.local_batch} x {batches.micro_steps}",
            f"{self.plan.recipe.epochs} x {batches.steps_per_epoch:,}",
            f"{self.images:,}",
            "not known" if math.isnan(self.hours) else f"{self.hours:.1f}",
        )


def suited_to(films: Mapping[str, TrainingFilms], protocol: Protocol) -> Protocol:
    """The protocol without the arms for which these films, which are by entry point, are too small."""
    suited = tuple(arm for arm in protocol.arms if films[arm.entry_point].image_size >= arm.smallest_films)
    for arm in protocol.arms:
        if arm not in suited:
            size = films[arm.entry_point].image_size
            warn(f"{arm.name} is left out: it takes films of {arm.smallest_films} px or more, and these have {size} px")
    return replace(protocol, arms=suited)


def plan_study(
    protocol: Protocol, seeds: int, shared: Settings, films: Mapping[str, TrainingFilms], scaling: Path
) -> list[PlannedArm]:
    """Plan each arm on these films, which are by entry point; raises UserError where one could not be trained."""
    measured = read_scaling(scaling)
    return [_plan(arm, protocol, seeds, shared, films, measured) for arm in protocol.arms]


def _plan(
    arm: Arm,
    protocol: Protocol,
    seeds: int,
    shared: Settings,
    films: Mapping[str, TrainingFilms],
    measured: KeptScaling | None,
) -> PlannedArm:
    cell = Cell(arm, 0, arm.rates[0] if arm.rates else None)
    try:
        # Weights are looked at when they are needed: the networks of a plan may not be there yet.
        config = training_of(cell, {**shared, **protocol.settings}, (), {})
        plan = plan_training(config, films[arm.entry_point])
    except UserError as error:
        raise UserError(f"{arm.name}: {error}") from error
    return PlannedArm(arm.name, len(arm.rates) + seeds - 1 if arm.rates else seeds, plan, _speed(plan, measured))


def plan_training(config: TrainingConfig, films: TrainingFilms) -> TrainingPlan:
    """Plan a training of any entry point."""
    if isinstance(config, DistributedConfig):
        return plan_ranks(config, films)
    return make_plan(config, films, config.bz, config.bz, ranks=1)  # type: ignore[attr-defined]  # TrainConfig


def _speed(plan: TrainingPlan, measured: KeptScaling | None) -> float:
    batches = plan.batches
    speed = measured and measured.images_per_second(
        plan.config.model.arch, batches.local_batch, batches.ranks, batches.micro_steps, plan.films.image_size
    )
    return speed or math.nan


def plan_rows(arms: Sequence[PlannedArm]) -> Iterator[tuple[str, ...]]:
    """Rows of the table, and one of the sums below them."""
    yield from (arm.row for arm in arms)
    hours = sum(arm.hours for arm in arms)
    images = sum(arm.images for arm in arms)
    told = "not known" if math.isnan(hours) else f"{hours:.1f}"
    yield "All", str(sum(arm.cells for arm in arms)), "", "", f"{images:,}", told
