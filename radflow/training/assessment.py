"""What a classifier is worth on a split: predictions, AUCs with intervals, figures; written down and sent to MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radflow.data.dataset.reading import Dataset, Split
from radflow.data.findings import key_of
from radflow.evaluation.auc import FindingAuc, auc_per_finding, mean_auc, mean_auc_interval
from radflow.evaluation.cross_entropy import mean_cross_entropy
from radflow.evaluation.groups import Group, auc_per_group
from radflow.evaluation.predictions import Predictions, write_predictions
from radflow.plots.report import auc_table
from radflow.plots.roc import auc_figure, roc_figure
from radflow.terminal import print_table, say
from radflow.tracking.run import TrackedRun
from radflow.training.job_folder import PREDICTIONS_FILE


@dataclass(frozen=True)
class Assessment:
    """AUCs of a split, by finding and in the mean, with 95 % intervals between patients."""

    results: dict[str, FindingAuc]
    mean_interval: tuple[float, float]
    groups: dict[Group, dict[str, FindingAuc]]
    """Results for crops with lesions, and with films, as units."""
    metrics: dict[str, float]
    """Metrics under the keys of the split."""


def log_inputs(dataset: Dataset, splits: Sequence[str], run: TrackedRun) -> None:
    """Say in the run which films it uses, with their counts: the UI shows them as its datasets."""
    contexts = {"train": "training", "val": "validation", "test": "testing"}
    for split in splits:
        counts = dataset.manifest.splits[split]
        profile = {"films": counts.rows, "patients": counts.patients, "positives": counts.positives}
        run.log_dataset(dataset.name, dataset.digest, str(dataset.path), profile, contexts[split])


def predictions_of(split: Split, findings: tuple[str, ...], probabilities: np.ndarray) -> Predictions:
    """Probabilities [films, findings] joined with the identity and labels of their films."""
    return Predictions(findings, probabilities=probabilities, **vars(split.table))


def assess(
    predictions: Predictions, split: str, title: str, folder: Path, run: TrackedRun, step: int = 0
) -> Assessment:
    """Write the predictions file into `folder`, log it with metrics and figures, and print the table of AUCs."""
    path = folder / PREDICTIONS_FILE
    write_predictions(path, predictions)
    results, interval = auc_per_finding(predictions), mean_auc_interval(predictions)
    groups = auc_per_group(predictions)
    by_dataset = {name: auc_per_finding(films) for name, films in predictions.by_dataset().items()}
    metrics = _metrics(predictions, split, results, interval) | _group_metrics(split, groups)
    metrics |= _dataset_metrics(split, by_dataset)
    assessment = Assessment(results, interval, groups, metrics)
    run.log_metrics(assessment.metrics, step)
    run.log_file(path, "predictions")
    run.log_figure(auc_figure(results, title), f"figures/auc_{split}.png")
    run.log_figure(roc_figure(predictions, title), f"figures/roc_{split}.png")
    print_table(auc_table(results, title, interval, groups))
    for name, of_dataset in by_dataset.items():
        print_table(auc_table(of_dataset, f"{title} of {name}"))
    say(f"predictions: {path}")
    return assessment


def _metrics(
    predictions: Predictions, split: str, results: dict[str, FindingAuc], interval: tuple[float, float]
) -> dict[str, float]:
    of_split = {
        f"{split}/loss": mean_cross_entropy(predictions),
        f"{split}/auc/mean": mean_auc(results),
        f"{split}/auc_ci_low/mean": interval[0],
        f"{split}/auc_ci_high/mean": interval[1],
    }
    return of_split | _auc_metrics(f"{split}/auc", results)


def _auc_metrics(name: str, results: dict[str, FindingAuc]) -> dict[str, float]:
    """The AUC of each finding, and the ends of its interval."""
    metrics: dict[str, float] = {}
    for finding, result in results.items():
        key = key_of(finding)
        metrics |= {
            f"{name}/{key}": result.auc,
            f"{name}_ci_low/{key}": result.low,
            f"{name}_ci_high/{key}": result.high,
        }
    return metrics


def _dataset_metrics(split: str, by_dataset: dict[str, dict[str, FindingAuc]]) -> dict[str, float]:
    """AUCs on each of several datasets, of the findings that it has."""
    metrics: dict[str, float] = {}
    for name, results in by_dataset.items():
        told = {finding: result.auc for finding, result in results.items() if result.positives + result.negatives}
        metrics |= {f"{split}/auc_in/{key_of(name)}/{key_of(finding)}": auc for finding, auc in told.items()}
        metrics[f"{split}/auc_in/{key_of(name)}/mean"] = mean_auc(results)
    return metrics


def _group_metrics(split: str, groups: dict[Group, dict[str, FindingAuc]]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for group, results in groups.items():
        metrics |= _auc_metrics(f"{split}/auc_per_{group}", results)
    return metrics
