"""What would run, and what it would cost, before anything is started: the table that opens every training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radflow.cluster.batch_plan import BatchPlan, BatchSchedule, nearest_global_batches, plan_batches
from radflow.cluster.hosts import choose_ranks, describe_hosts, is_local, parse_hosts, unused_slots_warning
from radflow.cluster.threads import choose_threads
from radflow.config import flatten
from radflow.cpu import available_cores
from radflow.data.dataset.reading import Dataset
from radflow.models.backbones import check_image_size
from radflow.models.config import SMALLEST_BATCH_OF_STATISTICS, Norm
from radflow.optim.auto_settings import expected_loss_of_auc, rate_warning
from radflow.plots.tables import terminal_table
from radflow.terminal import print_table, warn
from radflow.training.config import DistributedConfig, TrainingConfig
from radflow.training.job_folder import earlier_speed
from radflow.training.recipe import Recipe, network_kind, resolve

NEGLIGIBLE = 0.005
"""Expected loss of AUC that is not worth a word."""


@dataclass(frozen=True)
class TrainingFilms:
    """What a plan must know of a dataset."""

    name: str
    image_size: int
    count: int
    """Films of the training split."""
    digest: str = ""
    """SHA-256 of the manifest; empty where the films are not preprocessed yet."""

    @classmethod
    def of(cls, dataset: Dataset) -> TrainingFilms:
        """Those of a dataset on disk."""
        return cls(dataset.name, dataset.image_size, len(dataset.split("train")), dataset.digest)


@dataclass(frozen=True)
class TrainingPlan:
    """A training with nothing left open."""

    config: TrainingConfig
    films: TrainingFilms
    schedule: BatchSchedule
    recipe: Recipe
    warnings: tuple[str, ...]
    measured_speed: float | None = None
    """Films a second of such steps on this machine, where they were measured beforehand."""

    @property
    def batches(self) -> BatchPlan:
        """The batches of all epochs but those of `gbz_schedule`."""
        return self.schedule.full

    @property
    def total_steps(self) -> int:
        """Optimiser steps of all epochs."""
        return self.schedule.steps_before(self.recipe.epochs)

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting by its flag's name, resolved, and what was derived from them."""
        recipe, batches = self.recipe, self.batches
        told = flatten(self.config)
        if "gbz_schedule" in told:
            stages = [f"{batch}:{epochs}" for batch, epochs in self.schedule.first_stages]
            told["gbz_schedule"] = ",".join(stages) or "none"
        return {
            **told,
            "optimizer": recipe.optimizer,
            "base_lr": recipe.base_lr,
            "lr_scaling": recipe.lr_scaling,
            "warmup_epochs": recipe.warmup_epochs,
            "epochs": recipe.epochs,
            "norm": recipe.norm,
            "peak_lr": recipe.peak_lr,
            "ranks": batches.ranks,
            "local_batch": batches.local_batch,
            "micro_steps": batches.micro_steps,
            "global_batch": batches.global_batch,
            "effective_gbz": batches.effective_global_batch,
            "steps_per_epoch": batches.steps_per_epoch,
            "image_size": self.films.image_size,
            "data_name": self.films.name,
            "data_digest": self.films.digest,
        }


def make_plan(
    config: TrainingConfig,
    films: TrainingFilms,
    global_batch: int,
    local_batch: int,
    ranks: int,
    first_global_batches: Sequence[int] = (),
    idle_slots: str = "",
) -> TrainingPlan:
    """Plan the batches, of at most `local_batch` films on a rank, and resolve all that follows from them.

    `first_global_batches` are those of the first epochs, one each; `idle_slots` is the warning of slots that stay
    unused, if there are any. Raises UserError where it is no training.
    """
    check_image_size(config.model.arch, films.image_size)
    batches, *first = (
        plan_batches(batch, local_batch, ranks, films.count) for batch in (global_batch, *first_global_batches)
    )
    schedule = BatchSchedule(batches, tuple(first))
    recipe = resolve(config, schedule)
    rate = rate_warning(recipe.optimizer, recipe.peak_lr, network_kind(config))
    norm, warmup = _norm_warning(schedule, recipe.norm), _warmup_warning(recipe)
    warnings = (idle_slots, *_batch_warnings(schedule, local_batch), norm, rate, warmup)
    return TrainingPlan(config, films, schedule, recipe, tuple(filter(None, warnings)))


def plan_ranks(config: DistributedConfig, films: TrainingFilms) -> TrainingPlan:
    """Plan a training on the ranks that `np` and `hosts` stand for."""
    hosts = parse_hosts(config.hosts)
    ranks = choose_ranks(config.np, hosts, config.gbz)
    idle_slots = unused_slots_warning(ranks, hosts, config.gbz) if config.np == "auto" else ""
    local_batch = config.largest_local_batch(films.image_size)
    first = config.first_global_batches(films.count, ranks)
    return make_plan(config, films, config.gbz, local_batch, ranks, first, idle_slots)


def show_plan(plan: TrainingPlan) -> None:
    """Print the plan as a table, and its warnings."""
    table = terminal_table("Plan", ("", "", ""), plan_rows(plan))
    table.show_header = False
    table.columns[0].no_wrap = True
    table.columns[2].style = "dim"
    print_table(table)
    for warning in plan.warnings:
        warn(warning)


def plan_rows(plan: TrainingPlan) -> Iterator[tuple[str, str, str]]:
    """What, its value and why: the rows of the table."""
    config, films, batches, recipe = plan.config, plan.films, plan.batches, plan.recipe
    why = recipe.reasons
    yield "dataset", f"{films.name}: {films.count:,} training films of {films.image_size} px", ""
    weights = "random weights" if config.initial_weights == "none" else f"weights {config.initial_weights}"
    yield "network", f"{config.model.arch}, norm {recipe.norm}, {weights}", why.get("norm", "")
    yield "number format", recipe.precision, "gradients travel as float16" if config.sends_float16 else ""
    if isinstance(config, DistributedConfig):
        yield (
            "hosts",
            describe_hosts(parse_hosts(config.hosts), batches.ranks),
            _threads_in_words(config, batches.ranks),
        )
    yield "global batch", str(batches), ""
    step = "films are spread evenly over the steps" if batches.steps_per_epoch > 1 else "the whole training split"
    yield "steps an epoch", f"{batches.steps_per_epoch:,} of {batches.effective_global_batch:,} films", step
    if plan.schedule.first:
        stages = ", ".join(f"{epochs} of GBZ {batch:,}" for batch, epochs in plan.schedule.first_stages)
        rates = " and ".join(f"{factor * recipe.peak_lr:.4g}" for factor in dict.fromkeys(recipe.first_factors))
        yield "first epochs", stages, f"smaller batches take more steps, at {rates}"
    yield "epochs", f"{recipe.epochs:,}, which are {plan.total_steps:,} steps", why.get("epochs", "")
    yield "optimiser", recipe.optimizer, why.get("optimizer", "")
    yield "learning rate", f"{recipe.peak_lr:.4g} at the peak", why.get("peak_lr", "")
    yield "warm-up", f"{recipe.warmup_epochs:g} epochs", why.get("warmup_epochs", "")
    yield "schedule", config.optim.schedule, ""
    yield "expected time", *_expected_time(plan)
    yield "expected accuracy", *_expected_accuracy(plan)


def _threads_in_words(config: DistributedConfig, ranks: int) -> str:
    hosts = parse_hosts(config.hosts)
    if config.told_threads or is_local(hosts):
        threads = choose_threads(config.told_threads, available_cores(), min(ranks, available_cores()))
        return f"{threads} {'thread' if threads == 1 else 'threads'} a rank"
    return "each rank has an equal share of its host's cores"


def _expected_time(plan: TrainingPlan) -> tuple[str, str]:
    films = plan.recipe.epochs * plan.films.count
    if earlier := earlier_speed(Path(plan.config.out), plan.settings):
        speed, source = earlier.images_per_second, f"of {earlier.folder}"
    elif plan.measured_speed:
        speed, source = plan.measured_speed, "measured on this machine"
    else:
        reason = f"no earlier job in {plan.config.out} with this data, network and ranks"
        return "not known yet", f"{films:,} films; {reason}"
    seconds = films / speed
    length = f"{seconds / 60:.0f} minutes" if seconds > 100 else f"{seconds:.0f} s"
    return f"about {length}", f"{films:,} films at the {speed:.0f} images/s {source}"


def _expected_accuracy(plan: TrainingPlan) -> tuple[str, str]:
    loss = expected_loss_of_auc(plan.total_steps, network_kind(plan.config))
    if loss < NEGLIGIBLE:
        return "that of a small batch", "as measured on phantoms: docs/large-batch.md"
    return (
        f"mean AUC about {loss:.2f} below a small batch's",
        "so few steps cost that at the rule's rates; more epochs buy more steps",
    )


def _batch_warnings(schedule: BatchSchedule, largest_local_batch: int) -> Iterator[str]:
    batches = schedule.full
    if batches.films < batches.global_batch and not schedule.first:
        yield (
            f"{batches.films:,} training films are fewer than the global batch of {batches.global_batch:,}; "
            "each epoch is one step over all of them"
        )
    possible = min(largest_local_batch, batches.global_batch // batches.ranks)
    if 2 * batches.local_batch < possible:
        nearest = " or ".join(map(str, nearest_global_batches(batches.global_batch, batches.ranks * possible)))
        yield f"gbz={batches.global_batch} divides into LBZ {batches.local_batch} only; gbz={nearest} computes faster"


def _norm_warning(schedule: BatchSchedule, norm: Norm) -> str:
    """What to expect where batch normalisation sees too few films, as the paper's did at GBZ=512 with LBZ=4."""
    ranks = schedule.full.ranks
    seen = schedule.smallest_local_batch * (ranks if norm == "sync_batch" else 1)
    if norm not in ("batch", "sync_batch") or seen >= SMALLEST_BATCH_OF_STATISTICS // 2:
        return ""
    others = "" if norm == "sync_batch" or ranks == 1 else ", or give norm=sync_batch"
    return f"batch normalisation by the statistics of {seen} films hardly learns; raise lbz{others}"


def _warmup_warning(recipe: Recipe) -> str:
    if recipe.warmup_epochs <= recipe.epochs:
        return ""
    return (
        f"warmup_epochs={recipe.warmup_epochs:g} is longer than training, which ends at "
        f"{recipe.epochs / recipe.warmup_epochs:.0%} of its rate; give more than {recipe.epochs} epochs or less warm-up"
    )
