"""Everything that predictions of a test say of a model, computed once: for tables, figures, metrics and reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields

import pandas as pd

from radflow.evaluation.auc import FindingAuc, auc_per_finding, mean_auc, mean_auc_interval
from radflow.evaluation.estimates import Estimate
from radflow.evaluation.groups import Group, auc_per_group
from radflow.evaluation.measures import FindingMeasures, measure
from radflow.evaluation.predictions import Predictions
from radflow.evaluation.subgroups import Columns, Subgroup, evaluate_subgroups, known_columns
from radflow.evaluation.thresholds import YOUDEN, OperatingPoint, Thresholds, operating_points

MEAN = "mean"
"""What stands for a finding where a number is of all of them."""


@dataclass(frozen=True)
class Evaluation:
    """What a model's predictions of films are worth, each number with its 95 % interval between patients."""

    predictions: Predictions
    """The network's own."""
    calibrated: Predictions
    """Those that people read."""
    aucs: dict[str, FindingAuc]
    mean_auc: Estimate
    groups: dict[Group, dict[str, FindingAuc]]
    """AUCs with lesions and films for units of crops, and breasts for units of views."""
    by_dataset: dict[str, dict[str, FindingAuc]]
    """AUCs on each of several datasets that are joined."""
    measures: dict[str, FindingMeasures]
    """Measures of the calibrated probabilities."""
    uncalibrated: dict[str, FindingMeasures]
    operating_points: dict[str, dict[str, OperatingPoint | None]]
    """What the thresholds come to, by rule and finding; None for a finding without one."""
    subgroups: list[Subgroup]

    def table(self) -> pd.DataFrame:
        """Every number as a row: finding, measure, value, low, high; the measure names the rule of a threshold."""
        return pd.DataFrame(self._rows(), columns=["finding", "measure", "value", "low", "high"])

    def _rows(self) -> Iterator[tuple[str, str, float, float, float]]:
        yield MEAN, "auc", *astuple(self.mean_auc)
        for finding, area in self.aucs.items():
            yield finding, "auc", area.auc, area.low, area.high
            for suffix, measures in (("", self.measures), ("_uncalibrated", self.uncalibrated)):
                for name, estimate in vars(measures[finding]).items():
                    yield finding, f"{name}{suffix}", *astuple(estimate)
            for rule, points in self.operating_points.items():
                for name, estimate in vars(points[finding]).items() if points[finding] else ():
                    yield finding, f"{name}_{rule}", *astuple(estimate)


def evaluate(
    predictions: Predictions, calibrated: Predictions, thresholds: Thresholds, columns: Columns | None = None
) -> Evaluation:
    """Evaluate the network's own and the calibrated predictions of the same films, and thresholds of the former.

    Subgroups are those of `columns`; of sex, age and view unless given.
    """
    aucs = auc_per_finding(predictions)
    return Evaluation(
        predictions=predictions,
        calibrated=calibrated,
        aucs=aucs,
        mean_auc=Estimate(mean_auc(aucs), *mean_auc_interval(predictions)),
        groups=auc_per_group(predictions),
        by_dataset={name: auc_per_finding(films) for name, films in predictions.by_dataset().items()},
        measures=measure(calibrated),
        uncalibrated=measure(predictions),
        operating_points={rule: operating_points(predictions, values) for rule, values in thresholds.items()},
        subgroups=evaluate_subgroups(
            predictions, calibrated, thresholds.get(YOUDEN), known_columns(predictions) if columns is None else columns
        ),
    )


def subgroup_table(subgroups: Sequence[Subgroup]) -> pd.DataFrame:
    """A row a subgroup: column, value, counts, and each number with the ends of its interval."""
    rows = []
    for subgroup in subgroups:
        cells: dict[str, object] = {}
        for name, value in vars(subgroup).items():
            if isinstance(value, Estimate):
                cells |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
            else:
                cells[name] = value
        rows.append(cells)
    return pd.DataFrame(rows)


def rates(points: Mapping[str, OperatingPoint | None]) -> Iterator[tuple[str, str, Estimate]]:
    """Finding, name and estimate of every share that thresholds come to."""
    for finding, point in points.items():
        for field in fields(OperatingPoint) if point else ():
            yield finding, field.name, getattr(point, field.name)
