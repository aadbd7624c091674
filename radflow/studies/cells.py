"""The cells of a study: one training each, of an arm with a seed. Which come next, and what one is told."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from radflow.cluster.hosts import choose_ranks, parse_hosts
from radflow.config import flatten, make
from radflow.evaluation.predictions import Predictions
from radflow.studies.experiment import Arm, AtMostRanks, ImageNet, ModelOf, Protocol, Settings
from radflow.training.config import DistributedConfig, TrainConfig, TrainingConfig
from radflow.transfer.config import TransferConfig

CONFIGS: Mapping[str, type[TrainingConfig]] = {
    "train": TrainConfig,
    "distributed": DistributedConfig,
    "transfer": TransferConfig,
}

# Where a training's files lie and how it is looked after, which changes nothing that a study reports.
_EQUAL_ANYWAY = {"out", "config", "resume", "checkpoint_minutes", "stall_seconds", "max_restarts", "launcher"}


@dataclass(frozen=True)
class Cell:
    """One training."""

    arm: Arm
    seed: int
    rate: float | None = None
    """Value of base_lr, where the arm tries several."""

    @property
    def title(self) -> str:
        """What messages call it."""
        rate = "" if self.rate is None else f", rate {self.rate:g}"
        return f"{self.arm.name}{rate}, seed {self.seed}"

    @property
    def slug(self) -> str:
        """Its title as a part of a file's name."""
        return re.sub(r"[^a-z0-9.]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class CellResult:
    """What has become of a cell."""

    cell: Cell
    run_id: str
    history: tuple[dict[str, float], ...]
    """Metrics of each epoch; NaN where they were not finite."""
    predictions: Predictions | None
    """What the model says of the test films; None where training diverged."""
    settings: Mapping[str, object]
    """As they were resolved; none where training diverged."""

    @property
    def has_diverged(self) -> bool:
        """Whether its loss was not finite in the end."""
        return self.predictions is None

    def best(self, metric: str) -> float:
        """The lowest of a loss over the epochs, or the highest of another metric; NaN where there is none."""
        values = [value for value in self.by_epoch(metric) if value == value]
        return (min if metric.endswith("loss") else max)(values, default=float("nan"))

    def by_epoch(self, metric: str) -> list[float]:
        """A metric of each epoch."""
        return [epoch.get(metric, float("nan")) for epoch in self.history]


def next_cells(protocol: Protocol, results: Sequence[CellResult], seeds: int) -> list[Cell]:
    """The cells that can be trained now and have no result yet; none when the study is complete.

    An arm with rates tries them with the first seed, and takes the best for the others. An arm that starts from
    another's model waits for it, and is left out with the seeds with which that diverged.
    """
    done = {result.cell: result for result in results}
    return [cell for arm in protocol.arms for cell in _cells_of(arm, seeds, done) if cell not in done]


def _cells_of(arm: Arm, seeds: int, done: Mapping[Cell, CellResult]) -> Iterator[Cell]:
    if arm.rates:
        trials = [Cell(arm, 0, rate) for rate in arm.rates]
        yield from trials
        if any(trial not in done for trial in trials):
            return
        best = best_of([done[trial] for trial in trials])
        if best is not None:
            yield from (Cell(arm, seed, best.cell.rate) for seed in range(1, seeds))
        return
    for seed in range(seeds):
        if all(_model_of(name, seed, done) for name in arm.needs):
            yield Cell(arm, seed)


def best_of(results: Sequence[CellResult]) -> CellResult | None:
    """The result of highest validation AUC; None where all have diverged."""
    usable = [result for result in results if not result.has_diverged]
    return max(usable, key=lambda result: result.best("val/auc/mean"), default=None)


def _model_of(arm: str, seed: int, done: Mapping[Cell, CellResult]) -> str:
    """Address of the model that an arm has trained with a seed; empty where there is none."""
    found = [each for cell, each in done.items() if cell.arm.name == arm and cell.seed == seed]
    best = best_of(found)
    return f"runs:/{best.run_id}/model" if best else ""


def training_of(
    cell: Cell, shared: Settings, results: Sequence[CellResult], imagenet: Mapping[str, str]
) -> TrainingConfig:
    """What a cell's training is told: what all cells share as far as its entry point has it, and the arm's own first.

    `imagenet` are files of ImageNet's weights by network. Raises UserError where the entry point does not accept it.
    """
    done = {result.cell: result for result in results}
    config_type = CONFIGS[cell.arm.entry_point]
    known = flatten(config_type())
    told = {"threads": 0} | {name: value for name, value in shared.items() if name in known} | dict(cell.arm.settings)
    arch = str(told.get("arch", known["arch"]))

    def settled(value: object) -> object:
        if isinstance(value, ModelOf):
            return _model_of(value.arm, cell.seed, done)
        if isinstance(value, ImageNet):
            return imagenet.get(arch, "imagenet")
        return _ranks(value.count, shared) if isinstance(value, AtMostRanks) else value

    rate = {} if cell.rate is None else {"base_lr": cell.rate}
    settings = {name: settled(value) for name, value in told.items()}
    return make(config_type, {**settings, **rate, "seed": cell.seed, "resume": "auto"})


def _ranks(wanted: int, shared: Settings) -> int:
    hosts = parse_hosts(str(shared.get("hosts", "")))
    most = shared.get("np", "auto")
    slots = most if isinstance(most, int) else choose_ranks("auto", hosts, wanted)
    return max(ranks for ranks in range(1, min(wanted, slots) + 1) if wanted % ranks == 0)


def identity(training: TrainingConfig, entry_point: str, data_digest: str) -> str:
    """Eight digits that two cells share if their results are the same: in settings, machines and films.

    np=auto counts as the ranks that this thread's cores suit: each rank normalises its own films.
    """
    told = {name: value for name, value in flatten(training).items() if name not in _EQUAL_ANYWAY | {"data"}}
    if isinstance(training, DistributedConfig):
        told["np"] = choose_ranks(training.np, parse_hosts(training.hosts), training.gbz)
    text = json.dumps({**told, "entry_point": entry_point, "data_digest": data_digest}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
