"""What a training does, with nothing left to `auto`: resolved once, printed, logged and trained by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from radflow.cluster.batch_plan import BatchSchedule
from radflow.models.config import Norm
from radflow.models.precision import choose_precision
from radflow.optim.auto_settings import (
    FEWEST_EPOCHS,
    MOST_EPOCHS,
    WANTED_STEPS,
    NetworkKind,
    choose_epochs,
    choose_optimizer,
    choose_warmup,
)
from radflow.optim.config import OptimizerName, Scaling
from radflow.training.config import TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """Optimiser, rates, epochs, normalisation and number format of a training: as given, or as the rule chose."""

    optimizer: OptimizerName
    base_lr: float
    lr_scaling: Scaling
    peak_lr: float
    """Learning rate at the end of warm-up."""
    first_factors: tuple[float, ...]
    """Factors on the learning rate in the epochs of smaller global batches."""
    warmup_epochs: float
    epochs: int
    norm: Norm
    precision: str
    """Keras dtype policy."""
    reasons: Mapping[str, str]
    """Why, by setting, where the rule chose it."""


def resolve(config: TrainingConfig, schedule: BatchSchedule) -> Recipe:
    """Resolve every `auto` of a training on these batches; the same on every rank whose CPU has the same format.

    Raises UserError where epochs that are given do not hold what else was given in epochs.
    """
    batches, kind = schedule.full, network_kind(config)
    wanted_batch = min(batches.global_batch, batches.films)
    choice = choose_optimizer(config.optim, batches.effective_global_batch, kind, wanted_batch)
    optim = replace(config.optim, optimizer=choice.optimizer)
    first = [choose_optimizer(optim, plan.effective_global_batch, kind).peak_lr for plan in schedule.first]
    epochs = choose_epochs(config.epochs, schedule.steps_before, len(first), config.optim)
    config.check_epochs(epochs)
    warmup = choose_warmup(config.optim, epochs)
    norm = config.model.chosen_norm(schedule.smallest_local_batch, batches.ranks)
    reasons = dict(choice.reasons)
    if config.epochs == "auto":
        reasons["epochs"] = (
            f"for {WANTED_STEPS} steps, which learning needs, in {FEWEST_EPOCHS} to {MOST_EPOCHS} epochs"
        )
    if config.optim.warmup_epochs == "auto":
        reasons["warmup_epochs"] = f"a tenth of training, {_steps_in(warmup, schedule):.0f} steps"
    if config.model.norm == "auto" and norm == "sync_batch":
        reasons["norm"] = f"LBZ {schedule.smallest_local_batch} is too few for a rank's own statistics"
    return Recipe(
        optimizer=choice.optimizer,
        base_lr=choice.base_lr,
        lr_scaling=choice.lr_scaling,
        peak_lr=choice.peak_lr,
        first_factors=tuple(peak / choice.peak_lr for peak in first),
        warmup_epochs=warmup,
        epochs=epochs,
        norm=norm,
        precision=choose_precision(config.model.precision),
        reasons=reasons,
    )


def _steps_in(epochs: float, schedule: BatchSchedule) -> float:
    """Optimiser steps of the first epochs, fractions included."""
    whole = int(epochs)
    return schedule.steps_before(whole) + (epochs - whole) * schedule.of_epoch(whole).steps_per_epoch


def network_kind(config: TrainingConfig) -> NetworkKind:
    """What the rule needs to know of the network and its initial weights."""
    if config.model.is_normalised:
        return "normalised"
    return "plain" if config.initial_weights == "none" else "pretrained"
