"""Whether one of two ways of training, each repeated with several seeds, gives better models on the same films."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from radflow.errors import UserError
from radflow.evaluation.auc import auc_per_finding, mean_auc, resampled_mean_aucs
from radflow.evaluation.patients import CONFIDENCE, count_patients
from radflow.evaluation.predictions import Predictions

REPLICATES = 1000


@dataclass(frozen=True)
class ResampledAuc:
    """Mean AUC of one model on its test films: all that a comparison with another needs, and small enough to keep."""

    auc: float
    resampled: NDArray[np.float64]
    """The same in bootstrap draws of the patients, [REPLICATES]; the same draws for every model of the same films."""
    patients: int


@dataclass(frozen=True)
class RepeatedComparison:
    """How much higher the mean AUC is with one way of training than with another."""

    difference: float
    """Difference of mean AUCs, in the mean over seeds, -1 to 1; above 0 the first way is better."""
    low: float
    high: float
    """Ends of the 95 % interval, within what differences of AUCs can be."""
    p_value: float
    """Two-sided, of no difference."""
    between_patients: float
    """Standard error of the difference that comes of the patients tested."""
    between_seeds: float
    """That which comes of the seeds; NaN with one seed."""
    freedom: float
    """Degrees of freedom of both together; infinite where the difference has no spread."""
    seeds: int
    patients: int

    @property
    def error(self) -> float:
        """Standard error of the difference."""
        return math.hypot(self.between_patients, 0.0 if math.isnan(self.between_seeds) else self.between_seeds)

    def p_value_below(self, bound: float) -> float:
        """One-sided p-value of a true difference of `bound` or less: a small one says that it is more."""
        if self.error == 0:
            return float(self.difference <= bound)
        return float(stats.t.sf((self.difference - bound) / self.error, self.freedom))


def compare_repeated(first: Sequence[Predictions], second: Sequence[Predictions], seed: int = 0) -> RepeatedComparison:
    """Compare two ways of training by the predictions of their models; `first[i]` and `second[i]` share a seed.

    A paired t test of the difference in mean AUC with two sources of variance, as of readers and cases (Obuchowski and
    Rockette 1995, doi:10.1080/03610919508813243): patients, by a bootstrap that draws each with all her films and
    judges all models on the same draws; and seeds, by the spread of the differences of pairs. Their variances are
    added, degrees of freedom are Satterthwaite's. The spread of the pairs holds some of what patients and seeds do
    together, which the bootstrap holds too: the test errs to the side of no difference. With one seed the variance
    between seeds is not known and left out, so that the result is on these two models only.

    Raises UserError where the two are not as many, are of different films, or no finding has both classes.
    """
    _check(first, second)
    models = resample([*first, *second], seed)
    return compare_resampled(models[: len(first)], models[len(first) :])


def resample(models: Sequence[Predictions], seed: int = 0) -> list[ResampledAuc]:
    """What `compare_resampled` needs of models that were tested on the same films."""
    patients = count_patients(models[0].patient_ids)
    resampled = resampled_mean_aucs(models, REPLICATES, seed).astype(np.float64)
    aucs = [mean_auc(auc_per_finding(model)) for model in models]
    return [ResampledAuc(area, of_model, patients) for area, of_model in zip(aucs, resampled, strict=True)]


def compare_resampled(first: Sequence[ResampledAuc], second: Sequence[ResampledAuc]) -> RepeatedComparison:
    """`compare_repeated` without predictions at hand; all models were resampled with one seed, on the same films."""
    runs = len(first)
    by_seed = np.array([model.auc - other.auc for model, other in zip(first, second, strict=True)])
    of_patients = np.mean([model.resampled for model in first], axis=0)
    of_patients = of_patients - np.mean([model.resampled for model in second], axis=0)
    patients = first[0].patients
    parts = [(float(np.nanvar(of_patients, ddof=1)), patients - 1)]
    if runs > 1:
        parts.append((float(np.var(by_seed, ddof=1)) / runs, runs - 1))
    reach, p_value, freedom = _t_test(float(by_seed.mean()), parts)
    return RepeatedComparison(
        difference=float(by_seed.mean()),
        low=max(float(by_seed.mean()) - reach, -1.0),
        high=min(float(by_seed.mean()) + reach, 1.0),
        p_value=p_value,
        between_patients=math.sqrt(parts[0][0]),
        between_seeds=math.sqrt(parts[1][0]) if runs > 1 else math.nan,
        freedom=freedom,
        seeds=runs,
        patients=patients,
    )


def _t_test(difference: float, parts: Sequence[tuple[float, int]]) -> tuple[float, float, float]:
    """Half of the interval's width, the p-value and its degrees of freedom, from variances with theirs."""
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0, 1.0 if difference == 0 else 0.0, math.inf
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    error = math.sqrt(variance)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return reach, float(2 * stats.t.sf(abs(difference) / error, freedom)), float(freedom)


def _check(first: Sequence[Predictions], second: Sequence[Predictions]) -> None:
    if not first or len(first) != len(second):
        raise UserError(f"{len(first)} and {len(second)} trainings cannot be paired; expected one of each a seed")
    reference = first[0]
    for other in [*first, *second]:
        if other.findings != reference.findings or not _equal(other.image_ids, reference.image_ids):
            raise UserError("the trainings were tested on different films or findings; test all on the same dataset")
    if not reference.has_both_classes.any() or count_patients(reference.patient_ids) < 2:
        raise UserError("the test films have not both classes, or are of one patient; AUCs cannot be compared on them")


def _equal(one: NDArray[np.str_], other: NDArray[np.str_]) -> bool:
    return len(one) == len(other) and bool((one == other).all())
