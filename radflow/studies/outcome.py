"""What a study has found so far: results by arm, and as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from radflow.evaluation.auc import FindingAuc, auc, auc_per_finding, mean_auc
from radflow.evaluation.predictions import Predictions
from radflow.studies.cells import CellResult, best_of
from radflow.studies.experiment import Arm
from radflow.studies.films import FilmCounts

LOSS, AUC, SECONDS, SPEED = "val/loss", "val/auc/mean", "throughput/seconds_per_epoch", "throughput/images_per_second"
_WARM_UP = 1
"""Epochs left out of speeds, where there are more: the first traces the graph."""


@dataclass(frozen=True)
class Outcome:
    """Results of a study."""

    all_arms: tuple[Arm, ...]
    results: tuple[CellResult, ...]
    films: FilmCounts

    @property
    def arms(self) -> list[str]:
        """Names of the arms that have a model, in the experiment's order."""
        return [arm.name for arm in self.all_arms if self.of(arm.name)]

    @property
    def diverged(self) -> list[CellResult]:
        """Results whose loss was not finite in the end."""
        return [result for result in self.results if result.has_diverged]

    def of(self, arm: str) -> list[CellResult]:
        """Results of an arm by seed, at the best of its rates, without those that diverged."""
        found = [result for result in self.results if result.cell.arm.name == arm and not result.has_diverged]
        first = best_of([result for result in found if result.cell.seed == 0])
        rate = first.cell.rate if first else None
        return sorted((result for result in found if result.cell.rate == rate), key=lambda result: result.cell.seed)

    def paired(self, first: str, second: str) -> tuple[list[CellResult], list[CellResult]]:
        """Results of two arms with the seeds that both have."""
        by_seed = [{result.cell.seed: result for result in self.of(arm)} for arm in (first, second)]
        seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
        return [by_seed[0][seed] for seed in seeds], [by_seed[1][seed] for seed in seeds]

    def predictions(self, arm: str) -> list[Predictions]:
        """Predictions of test films by seed."""
        return [result.predictions for result in self.of(arm) if result.predictions is not None]

    def test_aucs(self, arm: str) -> list[float]:
        """Mean test AUC by seed."""
        return [_mean_auc(predictions) for predictions in self.predictions(arm)]

    def best(self, arm: str, metric: str) -> list[float]:
        """Lowest value of a loss over the epochs, or highest of another metric, by seed."""
        return [result.best(metric) for result in self.of(arm)]

    def median(self, arm: str, metric: str) -> list[float]:
        """Median of a metric over the epochs after the first, by seed."""
        return [_median(result.by_epoch(metric)) for result in self.of(arm)]

    def curves(self, arm: str, metric: str) -> NDArray[np.float64]:
        """A metric by seed and epoch, [seeds, epochs], NaN after the end of a training that stopped early."""
        histories = [result.by_epoch(metric) for result in self.of(arm)]
        values = np.full((len(histories), max(map(len, histories), default=0)), np.nan)
        for row, history in enumerate(histories):
            values[row, : len(history)] = history
        return values

    def finding_aucs(self, arm: str) -> dict[str, FindingAuc]:
        """AUC of each finding in the mean over seeds; ends of the interval are the means of the seeds' ends."""
        by_seed = [auc_per_finding(predictions) for predictions in self.predictions(arm)]
        return {finding: _mean_of([each[finding] for each in by_seed]) for finding in by_seed[0]}

    def cells_table(self) -> pd.DataFrame:
        """A row for each cell: what it was and what it came to."""
        return pd.DataFrame([_row(result) for result in self.results])

    def epochs_table(self) -> pd.DataFrame:
        """A row for each epoch of each cell."""
        keys = (LOSS, AUC, "train/loss", SECONDS, SPEED)
        return pd.DataFrame(
            {**_name(result), "epoch": number, **{key: epoch.get(key, math.nan) for key in keys}}
            for result in self.results
            for number, epoch in enumerate(result.history, 1)
        )


def _mean_of(seeds: Sequence[FindingAuc]) -> FindingAuc:
    auc, low, high = np.mean([(each.auc, each.low, each.high) for each in seeds], axis=0).tolist()
    return FindingAuc(auc, low, high, seeds[0].positives, seeds[0].negatives)


def _name(result: CellResult) -> dict[str, object]:
    return {"arm": result.cell.arm.name, "seed": result.cell.seed, "rate": result.cell.rate}


def _row(result: CellResult) -> Mapping[str, object]:
    by_finding: dict[str, float] = {}
    if result.predictions is not None:
        for index, finding in enumerate(result.predictions.findings):
            _, labels, probabilities = result.predictions.of_finding(index)
            by_finding[f"test_auc_{finding}"] = auc(labels, probabilities)
    resolved = ("optimizer", "peak_lr", "global_batch", "local_batch", "ranks", "threads", "steps_per_epoch")
    return {
        **_name(result),
        "state": "diverged" if result.has_diverged else "finished",
        "epochs": len(result.history),
        **{name: result.settings.get(name) for name in resolved},
        "best_val_loss": result.best(LOSS),
        "best_val_auc": result.best(AUC),
        "test_auc": math.nan if result.predictions is None else _mean_auc(result.predictions),
        **by_finding,
        "seconds_per_epoch": _median(result.by_epoch(SECONDS)),
        "images_per_second": _median(result.by_epoch(SPEED)),
        "run": result.run_id,
    }


def _mean_auc(predictions: Predictions) -> float:
    return mean_auc(auc_per_finding(predictions))


def _median(by_epoch: Sequence[float]) -> float:
    known = [value for value in by_epoch[_WARM_UP:] or by_epoch if math.isfinite(value)]
    return float(np.median(known)) if known else math.nan
