"""What a classifier is worth on a split: predictions, numbers with intervals and figures, written and logged."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from radflow.data.dataset.reading import ALL, Dataset, Split
from radflow.data.findings import key_of
from radflow.data.seen_patients import Leakage
from radflow.evaluation.auc import FindingAuc, mean_auc
from radflow.evaluation.cross_entropy import mean_cross_entropy
from radflow.evaluation.evaluation import MEAN, Evaluation, evaluate, rates, subgroup_table
from radflow.evaluation.literature import DATASET as LITERATURE_DATASET
from radflow.evaluation.measures import mean_measures
from radflow.evaluation.patients import count_patients
from radflow.evaluation.predictions import Predictions, read_predictions, write_predictions
from radflow.evaluation.subgroups import Columns, largest_deficit
from radflow.evaluation.thresholds import YOUDEN
from radflow.files import atomic_file
from radflow.inference.description import Outputs
from radflow.plots.evaluation_report import evaluation_figures, evaluation_html
from radflow.plots.page import Section
from radflow.plots.report import auc_table, probability_table
from radflow.plots.subgroups import subgroups_table
from radflow.terminal import print_table, say
from radflow.tracking.finished_runs import fetch_artifact
from radflow.tracking.run import TrackedRun
from radflow.training.job_folder import PREDICTIONS_FILE
from radflow.versions import installed_versions

NUMBERS_FILE, SUBGROUPS_FILE, REPORT_FILE = "evaluation.csv", "subgroups.csv", "report.html"
"""Names of the tables of every number with its interval and of the report, in folders of jobs and of artefacts."""
_SOFTWARE = ("radflow", "tensorflow", "tensorflow-cpu", "keras")


@dataclass(frozen=True)
class Assessment:
    """An evaluation, and what of it MLflow has as metrics."""

    evaluation: Evaluation
    metrics: dict[str, float]
    """Metrics under the keys of the split."""


def log_inputs(dataset: Dataset, splits: Sequence[str], run: TrackedRun) -> None:
    """Say in the run which films it uses, with their counts: the UI shows them as its datasets."""
    contexts = {"train": "training", "val": "validation", "test": "testing"}
    if ALL in splits:
        splits = [split for split, counts in dataset.manifest.splits.items() if counts.rows]
        contexts = dict.fromkeys(splits, "testing")
    for split in splits:
        counts = dataset.manifest.splits[split]
        profile = {"films": counts.rows, "patients": counts.patients, "positives": counts.positives}
        run.log_dataset(dataset.name, dataset.digest, str(dataset.path), profile, contexts[split])


def predictions_of(split: Split, findings: tuple[str, ...], probabilities: np.ndarray) -> Predictions:
    """Probabilities [films, findings] joined with the identity and labels of their films."""
    return Predictions(findings, probabilities=probabilities, **vars(split.table))


def predictions_of_run(run_id: str) -> Predictions:
    """What the model of a run said of its films; raises UserError where the run has no such file."""
    with tempfile.TemporaryDirectory(prefix="radflow-predictions-") as folder:
        return read_predictions(fetch_artifact(run_id, f"predictions/{PREDICTIONS_FILE}", Path(folder)))


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a model on films of a dataset."""

    split: str
    """Beginning of metric keys: test, all or external."""
    title: str
    model: str
    """As a reader finds it: an architecture, or the address of a saved model."""
    dataset: Dataset
    leakage: Leakage

    @property
    def has_literature(self) -> bool:
        """Whether published results are of such films."""
        return self.dataset.name == LITERATURE_DATASET and self.split == "test"

    def facts(self, predictions: Predictions) -> dict[str, str]:
        """What a reader of a report must know, by name."""
        rule = self.dataset.manifest.split_rule
        return {
            "Model": self.model,
            "Dataset": f"{self.dataset.name}, manifest SHA-256 {self.dataset.digest}",
            "Films": f"{len(predictions):,} of {count_patients(predictions.patient_ids):,} patients, {self.split}",
            "Split": f"{rule.rule}, seed {rule.seed}",
            "Patients seen in training": str(self.leakage),
            "Software": ", ".join(f"{name} {version}" for name, version in installed_versions(_SOFTWARE).items()),
        }


def assess(
    predictions: Predictions,
    outputs: Outputs,
    subject: Subject,
    folder: Path,
    run: TrackedRun,
    step: int = 0,
    columns: Columns | None = None,
    extra: Sequence[Section] = (),
) -> Assessment:
    """Evaluate a network's predictions with its model's thresholds and calibration, and tell what they are worth.

    The predictions, all numbers and a report are written into `folder` and logged, with metrics of the split and
    figures, and the numbers are printed. Subgroups are those of `columns`; of sex, age and view unless given. The
    report ends with the sections `extra`.
    """
    calibrated = replace(predictions, probabilities=outputs.calibration(predictions.probabilities).astype(np.float32))
    evaluation = evaluate(predictions, calibrated, outputs.thresholds, columns)
    assessment = Assessment(evaluation, _metrics(evaluation, subject.split))
    write_predictions(folder / PREDICTIONS_FILE, predictions)
    figures = evaluation_figures(evaluation, subject.title, subject.has_literature)
    report = evaluation_html(
        evaluation,
        figures,
        subject.title,
        subject.facts(predictions),
        subject.leakage.warning,
        subject.has_literature,
        extra,
    )
    texts = {
        NUMBERS_FILE: evaluation.table().to_csv(index=False, float_format="%.6f"),
        SUBGROUPS_FILE: subgroup_table(evaluation.subgroups).to_csv(index=False, float_format="%.6f"),
        REPORT_FILE: report,
    }
    for name, text in texts.items():
        with atomic_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    run.log_metrics(assessment.metrics, step)
    for name in (PREDICTIONS_FILE, *texts):
        run.log_file(folder / name, "predictions")
    for name, figure in figures.items():
        run.log_figure(figure, f"figures/{name}_{subject.split}.png")
    _print(evaluation, outputs, subject.title)
    say(f"predictions: {folder / PREDICTIONS_FILE}")
    say(f"report: {folder / REPORT_FILE}")
    return assessment


def _print(evaluation: Evaluation, outputs: Outputs, title: str) -> None:
    print_table(auc_table(evaluation.aucs, title, evaluation.mean_auc.interval, evaluation.groups))
    for name, of_dataset in evaluation.by_dataset.items():
        print_table(auc_table(of_dataset, f"{title} of {name}"))
    limits = outputs.calibration(outputs.thresholds[YOUDEN]) if YOUDEN in outputs.thresholds else None
    print_table(probability_table(evaluation, limits, title))
    if evaluation.subgroups:
        print_table(subgroups_table(evaluation.subgroups, title))


def _metrics(evaluation: Evaluation, split: str) -> dict[str, float]:
    area = evaluation.mean_auc
    metrics = {
        f"{split}/loss": mean_cross_entropy(evaluation.predictions),
        f"{split}/auc/{MEAN}": area.value,
        f"{split}/auc_ci_low/{MEAN}": area.low,
        f"{split}/auc_ci_high/{MEAN}": area.high,
    }
    metrics |= _auc_metrics(f"{split}/auc", evaluation.aucs)
    for group, results in evaluation.groups.items():
        metrics |= _auc_metrics(f"{split}/auc_per_{group}", results)
    metrics |= _dataset_metrics(split, evaluation.by_dataset)
    return metrics | _probability_metrics(evaluation, split)


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


def _probability_metrics(evaluation: Evaluation, split: str) -> dict[str, float]:
    """What calibrated probabilities are worth, and what Youden's thresholds come to; intervals are in the table."""
    metrics = {f"{split}/{name}/{MEAN}": value for name, value in mean_measures(evaluation.measures).items()}
    before = mean_measures(evaluation.uncalibrated)["calibration_error"]
    metrics[f"{split}/uncalibrated_error/{MEAN}"] = before
    for finding, found in evaluation.measures.items():
        metrics |= {f"{split}/{name}/{key_of(finding)}": each.value for name, each in vars(found).items()}
    if worst := largest_deficit(evaluation.subgroups):
        metrics[f"{split}/subgroup_deficit"] = -worst.auc_difference.value
    for finding, name, share in rates(evaluation.operating_points.get(YOUDEN, {})):
        metrics[f"{split}/{name}/{key_of(finding)}"] = share.value
    return metrics
