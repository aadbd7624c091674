"""The one table of metric keys. A key that is not in it cannot be logged."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple


class MetricRow(NamedTuple):
    """One row of the table: a key pattern, its unit and what it means."""

    pattern: str
    unit: str
    meaning: str


# <judged> is test, all, or external, which is films of another dataset than the model's own; <split> is that, train or
# val; <Finding> is a finding's name, with underscores for signs that a key may not hold.
METRICS: tuple[MetricRow, ...] = (
    MetricRow(
        "train/loss",
        "nats",
        "what training minimises (`loss`, `pos_weight`, `label_smoothing`), mean over the films of the epoch",
    ),
    MetricRow(
        "val/loss", "nats", "plain binary cross-entropy per finding whatever `loss` is, mean over all validation films"
    ),
    MetricRow(
        "<judged>/loss", "nats", "plain binary cross-entropy per finding whatever `loss` is, mean over all films judged"
    ),
    MetricRow("val/auc/mean", "0 to 1", "mean ROC AUC over the findings that have both classes in the split"),
    MetricRow("val/auc/<Finding>", "0 to 1", "ROC AUC of one finding; not a number when it has only one class"),
    MetricRow("val/auc_ci_low/mean", "0 to 1", "lower end of the 95 % interval of the mean AUC"),
    MetricRow("val/auc_ci_high/mean", "0 to 1", "upper end of the 95 % interval of the mean AUC"),
    MetricRow("val/auc_ci_low/<Finding>", "0 to 1", "lower end of the 95 % interval of the finding's AUC"),
    MetricRow("val/auc_ci_high/<Finding>", "0 to 1", "upper end of the 95 % interval of the finding's AUC"),
    MetricRow("best/epoch", "epochs", "the epoch of highest val/auc/mean so far; in the end the model has its weights"),
    MetricRow("best/val_auc", "0 to 1", "val/auc/mean of that epoch"),
    MetricRow("<judged>/auc/mean", "0 to 1", "as val/auc/mean, on the films judged"),
    MetricRow("<judged>/auc/<Finding>", "0 to 1", "as val/auc/<Finding>, on the films judged"),
    MetricRow("<judged>/auc_ci_low/mean", "0 to 1", "as val/auc_ci_low/mean, on the films judged"),
    MetricRow("<judged>/auc_ci_high/mean", "0 to 1", "as val/auc_ci_high/mean, on the films judged"),
    MetricRow("<judged>/auc_ci_low/<Finding>", "0 to 1", "as val/auc_ci_low/<Finding>, on the films judged"),
    MetricRow("<judged>/auc_ci_high/<Finding>", "0 to 1", "as val/auc_ci_high/<Finding>, on the films judged"),
    MetricRow(
        "<split>/auc_per_<group>/<Finding>",
        "0 to 1",
        "ROC AUC with lesions or films for units of crops, or breasts of their views, by the mean probability",
    ),
    MetricRow("<split>/auc_per_<group>_ci_low/<Finding>", "0 to 1", "lower end of its 95 % interval"),
    MetricRow("<split>/auc_per_<group>_ci_high/<Finding>", "0 to 1", "upper end of its 95 % interval"),
    MetricRow("<split>/auc_in/<dataset>/mean", "0 to 1", "of several datasets: <split>/auc/mean on the films of one"),
    MetricRow("<split>/auc_in/<dataset>/<Finding>", "0 to 1", "likewise <split>/auc/<Finding>, if it is known there"),
    MetricRow("<split>/average_precision/mean", "0 to 1", "mean average precision over the findings"),
    MetricRow("<split>/average_precision/<Finding>", "0 to 1", "area under the precision-recall curve, a sum of steps"),
    MetricRow("<split>/brier/mean", "0 to 1", "mean Brier score over the findings"),
    MetricRow("<split>/brier/<Finding>", "0 to 1", "mean squared difference of calibrated probability and truth"),
    MetricRow("<split>/calibration_error/mean", "0 to 1", "mean calibration error over the findings"),
    MetricRow(
        "<split>/calibration_error/<Finding>",
        "0 to 1",
        "expected calibration error: calibrated probability against share of films, in ten groups of equal size",
    ),
    MetricRow("<split>/uncalibrated_error/mean", "0 to 1", "mean calibration error of the network's own probabilities"),
    MetricRow(
        "<split>/sensitivity/<Finding>", "0 to 1", "films called positive of those with the finding, Youden's threshold"
    ),
    MetricRow("<split>/specificity/<Finding>", "0 to 1", "films called negative of those without the finding"),
    MetricRow("<split>/ppv/<Finding>", "0 to 1", "films with the finding of those called positive"),
    MetricRow("<split>/npv/<Finding>", "0 to 1", "films without the finding of those called negative"),
    MetricRow(
        "<split>/subgroup_deficit",
        "0 to 1",
        "how far the mean AUC of a subgroup is below that of the other films, where that is beyond chance; the largest",
    ),
    MetricRow(
        "boxes/pointing/<Finding>",
        "0 to 1",
        "films whose heat map is largest in a radiologist's box (evaluate)",
    ),
    MetricRow("boxes/overlap/<Finding>", "0 to 1", "mean intersection over union of boxes and the heat map's region"),
    MetricRow("optim/learning_rate", "1", "learning rate of the epoch's last optimiser step"),
    MetricRow(
        "throughput/images_per_second",
        "images/s",
        "films per second, of all ranks together",
    ),
    MetricRow("throughput/seconds_per_epoch", "s", "wall-clock time of the epoch's training steps"),
    MetricRow(
        "throughput/mfu",
        "1",
        "operations of the films by the peak of all ranks' convolutions, measured at the start; above 1 where 3x3 "
        "convolutions take fewer products than that, as VGG-16 may in float32",
    ),
    MetricRow("throughput/step_seconds", "s", "of ranks: a step of the median rank without the sum over ranks"),
    MetricRow("throughput/slowest_rank_seconds", "s", "of ranks: the same of the slowest, which all others wait for"),
    MetricRow(
        "throughput/allreduce_seconds", "s", "of ranks: the sum over ranks in a step of the one that waits least"
    ),
    MetricRow("throughput/peak_mib", "MiB", "of ranks: the most memory that the largest has had at a time"),
    MetricRow("data/films/<split>", "films", "films of the split"),
    MetricRow("data/patients/<split>", "patients", "patients of the split"),
    MetricRow("data/positives/<split>/<Finding>", "films", "films of the split that show the finding"),
    MetricRow("data/unknown/<split>/<Finding>", "films", "films of the split that may or may not show the finding"),
    MetricRow("data/rejected_films", "films", "films that could not be read; rejected.csv names them with the reason"),
    MetricRow(
        "leakage/patients",
        "patients",
        "of the split that is judged: seen in training by the model, or by one that it started from",
    ),
    MetricRow("leakage/val_patients", "patients", "of val: trained on by a model that this one started from"),
    MetricRow("predict/films", "films", "films that got a row of probabilities"),
    MetricRow("predict/rejected_films", "films", "films that could not be read; the .rejected.csv names them"),
    MetricRow(
        "search/best_val_auc", "0 to 1", "best/val_auc of the best trial so far; the step is the number of ended trials"
    ),
    MetricRow("study/cells/finished", "cells", "trainings of a study that have come to their end"),
    MetricRow("study/cells/diverged", "cells", "those whose loss was not finite"),
    MetricRow("study/claims/reproduced", "claims", "claims that the study bears out"),
    MetricRow("study/claims/not_reproduced", "claims", "claims that it contradicts"),
    MetricRow("study/claims/not_testable", "claims", "claims that it cannot decide at its scale"),
    MetricRow("search/trials/<state>", "trials", "trials of a search that ended so: complete, pruned or failed"),
    MetricRow(
        "compare/<measure>/<arm>",
        "in the name",
        "of a comparison with (`pretrained`) and without (`scratch`) pre-training: mean of the trainings over seeds",
    ),
    MetricRow("compare/test_auc_difference", "-1 to 1", "test AUC per crop, pre-trained minus from scratch"),
    MetricRow("compare/test_auc_difference_ci_low", "-1 to 1", "lower end of its 95 % interval"),
    MetricRow("compare/test_auc_difference_ci_high", "-1 to 1", "upper end of its 95 % interval"),
    MetricRow("compare/p_value", "0 to 1", "of no difference: paired t test with the variance of patients and seeds"),
    MetricRow("system/<measure>", "in the name", "MLflow's system metrics of the host of rank 0"),
)

_PLACEHOLDERS = {
    "<judged>": "(?:test|all|external)",
    "<split>": "(?:train|val|test|all|external)",
    "<arm>": "(?:pretrained|scratch)",
    "<group>": "(?:lesion|film|breast)",
    "<dataset>": "[^/]+",
    "<Finding>": "[^/]+",
    "<measure>": "[^/]+",
    "<state>": "(?:complete|pruned|failed)",
}


def check_metric_key(key: str) -> None:
    """Raise KeyError, naming the key, unless the table of metric keys has a row for it."""
    if not _documented(key):
        raise KeyError(
            f"metric key {key!r} is in no row of the table of metric keys; expected a key such as 'val/auc/mean'; "
            "correct the key or add its row to METRICS in radflow/tracking/metrics.py"
        )


@functools.lru_cache(maxsize=4096)
def _documented(key: str) -> bool:
    return any(pattern.fullmatch(key) for pattern in _patterns())


@functools.cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    return tuple(_compile(row.pattern) for row in METRICS)


def _compile(pattern: str) -> re.Pattern[str]:
    parts = re.split("(<[A-Za-z]+>)", pattern)
    return re.compile("".join(_PLACEHOLDERS[part] if part.startswith("<") else re.escape(part) for part in parts))
