"""Area under the ROC curve, per finding and in the mean, with intervals that know which films share a patient.

The AUC is the chance that a film with the finding scores above one without it, a tie counting half (Mann-Whitney).
Its building blocks are placement values: of a positive film, the share of negative films that it beats; of a negative
film, the share of positive films that beat it. Their mean is the AUC, and their spread is its variance (DeLong,
DeLong and Clarke-Pearson 1988, doi:10.2307/2531595), found by sorting instead of comparing all pairs as Sun and Xu
2014 do (doi:10.1109/LSP.2014.2337313). Films of one patient are alike, so the spread is taken between patients
(Obuchowski 1997, doi:10.2307/2533958); with one film each, that is DeLong's variance to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from radflow.evaluation.patients import CONFIDENCE, draw_patients, patient_numbers
from radflow.evaluation.predictions import Predictions


@dataclass(frozen=True)
class FindingAuc:
    """AUC of one finding with its 95 % interval; all three are NaN where a class is absent."""

    auc: float
    low: float
    high: float
    positives: int
    negatives: int


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Exact area under the ROC curve, ties counting half; NaN where a class is absent.

    Parameters
    ----------
    labels : bool [N], or 0 and 1
    scores : float [N]
        Higher means more suspicious; any finite scale.

    Raises
    ------
    ValueError
        For NaN or infinite scores, for labels other than 0 and 1, or where the two differ in shape.
    """
    positive, negative = _scores_by_class(*_checked(labels, scores))
    if not (len(positive) and len(negative)):
        return math.nan
    return float(_share_beaten(positive, np.sort(negative)).mean())


def auc_with_interval(labels: ArrayLike, scores: ArrayLike, patient_ids: ArrayLike | None = None) -> FindingAuc:
    """AUC of one finding with a 95 % interval between patients.

    Parameters
    ----------
    labels, scores
        As in `auc`.
    patient_ids : [N], optional
        Films with the same id are taken as alike. Without ids, and where an id is empty, each film stands for itself.

    Notes
    -----
    The interval is taken on the logit scale, where the sampling distribution is nearer to normal and the ends stay
    between 0 and 1, with quantiles of Student's t as Brunner and Munzel 2000 take them for this statistic
    (doi:10.1002/(SICI)1521-4036(200001)42:1<17::AID-BIMJ17>3.0.CO;2-U): with a handful of positive films the normal
    quantile misses the truth far too often, and with many films the two agree.

    Where no spread can be estimated the interval is wide, never falsely narrow: with fewer than two patients in a class
    it is 0 to 1; at an AUC of exactly 0 or 1, whose estimated variance is 0, it is the exact binomial bound for the
    pairs that can be formed of different patients. Scores that are all equal have an AUC of one half by definition,
    and their interval is that point.
    """
    truth, checked_scores = _checked(labels, scores)
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not (positives and negatives):
        return FindingAuc(math.nan, math.nan, math.nan, positives, negatives)
    clusters = patient_numbers(patient_ids, len(truth))
    auc, patients = _patient_sums(truth, checked_scores, clusters)
    low, high = _interval(auc, patients)
    return FindingAuc(auc, low, high, positives, negatives)


def auc_per_finding(predictions: Predictions) -> dict[str, FindingAuc]:
    """AUC, interval and class counts of every finding, in their order, of the films of which it is known."""
    clusters = patient_numbers(predictions.patient_ids, len(predictions))
    results = {}
    for index, finding in enumerate(predictions.findings):
        rows, labels, probabilities = predictions.of_finding(index)
        results[finding] = auc_with_interval(labels, probabilities, clusters[rows])
    return results


def mean_auc(results: Mapping[str, FindingAuc]) -> float:
    """Mean AUC over the findings that have both classes; NaN if none has."""
    aucs = [result.auc for result in results.values() if not math.isnan(result.auc)]
    return float(np.mean(aucs)) if aucs else math.nan


def mean_auc_interval(predictions: Predictions, replicates: int = 500, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean AUC: percentiles of a bootstrap that draws patients, with all their films, again.

    A patient's films and findings stay together, so their dependence is in the interval. A finding that loses a class
    in a replicate is left out of that replicate's mean, as `mean_auc` does. Both ends are NaN where `mean_auc` is, and
    with fewer than two patients.
    """
    means = resampled_mean_aucs([predictions], replicates, seed)[0]
    if np.isnan(means).all():
        return math.nan, math.nan
    low, high = np.nanquantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def resampled_mean_aucs(models: Sequence[Predictions], replicates: int, seed: int) -> NDArray[np.float64]:
    """Mean AUCs of several models' predictions of the same films, in bootstrap draws of patients, [models, replicates].

    All models get the same draws, so that their differences are paired. NaN where no finding has both classes, and in
    all replicates with fewer than two patients.
    """
    clusters = patient_numbers(models[0].patient_ids, len(models[0]))
    patients = int(clusters.max(initial=-1)) + 1
    usable = np.flatnonzero(models[0].has_both_classes)
    if patients < 2 or not len(usable):
        return np.full((len(models), replicates), np.nan)
    means = []
    for draws in draw_patients(patients, replicates, seed):
        weights = draws[clusters]
        means.append([_resampled_means(model, usable, weights) for model in models])
    return np.concatenate(means, axis=1)


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.floating]]:
    truth, values = np.asarray(labels), np.asarray(scores)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise ValueError(f"labels and scores must be vectors of one length; given {truth.shape} and {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"scores must be finite; {int((~np.isfinite(values)).sum())} of {len(values)} are not")
    if truth.dtype != np.bool_ and not np.isin(truth, (0, 1)).all():
        raise ValueError("labels must be 0 or 1; leave films with an uncertain label out")
    return truth.astype(np.bool_), values


def _scores_by_class(
    truth: NDArray[np.bool_], scores: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    return scores[truth], scores[~truth]


def _share_beaten(scores: NDArray[np.floating], ordered: NDArray[np.floating]) -> NDArray[np.float64]:
    """Fraction of `ordered` (ascending) below each score, ties counting half."""
    below = np.searchsorted(ordered, scores, side="left")
    not_above = np.searchsorted(ordered, scores, side="right")
    return (below + not_above) / (2.0 * len(ordered))


@dataclass(frozen=True)
class _PatientSums:
    """Films and summed placement values of each patient, [patients]; Obuchowski's m, n, V10 and V01."""

    positives: NDArray[np.float64]
    negatives: NDArray[np.float64]
    positive_placements: NDArray[np.float64]
    negative_placements: NDArray[np.float64]


def _patient_sums(
    truth: NDArray[np.bool_], scores: NDArray[np.floating], clusters: NDArray[np.intp]
) -> tuple[float, _PatientSums]:
    """Return the AUC, and its building blocks summed by patient."""
    positive, negative = _scores_by_class(truth, scores)
    of_positive = _share_beaten(positive, np.sort(negative))
    of_negative = 1.0 - _share_beaten(negative, np.sort(positive))
    patients = int(clusters.max()) + 1
    sums = _PatientSums(
        positives=_by_patient(clusters[truth], np.ones(len(positive)), patients),
        negatives=_by_patient(clusters[~truth], np.ones(len(negative)), patients),
        positive_placements=_by_patient(clusters[truth], of_positive, patients),
        negative_placements=_by_patient(clusters[~truth], of_negative, patients),
    )
    return float(of_positive.mean()), sums


def _by_patient(clusters: NDArray[np.intp], values: NDArray[np.float64], patients: int) -> NDArray[np.float64]:
    return np.bincount(clusters, weights=values, minlength=patients).astype(np.float64, copy=False)


def _variance(auc: float, sums: _PatientSums) -> tuple[float, float]:
    """Variance of the AUC between patients, and its degrees of freedom; needs two patients with films of each class.

    The variance is Obuchowski's of 1997. It cannot be negative: twice a product is at least minus the sum of squares,
    and the factor of the covariance is the smallest. The degrees of freedom are Satterthwaite's for the two classes.
    """
    with_positive, with_negative = int((sums.positives > 0).sum()), int((sums.negatives > 0).sum())
    patients = len(sums.positives)
    positive_excess = (sums.positive_placements - sums.positives * auc) / sums.positives.sum()
    negative_excess = (sums.negative_placements - sums.negatives * auc) / sums.negatives.sum()
    of_positives = with_positive / (with_positive - 1) * float(np.sum(positive_excess**2))
    of_negatives = with_negative / (with_negative - 1) * float(np.sum(negative_excess**2))
    covariance = patients / (patients - 1) * float(np.sum(positive_excess * negative_excess))
    both = of_positives + of_negatives
    if both == 0:
        return 0.0, math.inf
    freedom = both**2 / (of_positives**2 / (with_positive - 1) + of_negatives**2 / (with_negative - 1))
    return max(both + 2 * covariance, 0.0), freedom


def _interval(auc: float, sums: _PatientSums) -> tuple[float, float]:
    """95 % interval of an AUC; see the notes of `auc_with_interval`."""
    with_positive, with_negative = sums.positives > 0, sums.negatives > 0
    fewest = int(min(with_positive.sum(), with_negative.sum()))
    if fewest < 2:
        return 0.0, 1.0
    tail = (1 - CONFIDENCE) / 2
    if auc in (0.0, 1.0):
        # All of k pairs of different patients are in the same order, which has the chance auc^k: Clopper-Pearson.
        pairs = min(fewest, len(sums.positives) // 2)
        bound = tail ** (1 / pairs)
        return (bound, 1.0) if auc == 1.0 else (0.0, 1.0 - bound)
    variance, freedom = _variance(auc, sums)
    logit = math.log(auc / (1 - auc))
    reach = stats.t.ppf(1 - tail, freedom) * math.sqrt(variance) / (auc * (1 - auc))
    return _logistic(logit - reach), _logistic(logit + reach)


def _logistic(value: float) -> float:
    return 0.5 * (1 + math.tanh(value / 2))  # tanh does not overflow


def weighted_aucs(
    truth: NDArray[np.bool_], scores: NDArray[np.floating], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """AUCs of one finding in R replicates, [R], where film i counts weights[i, r] times; NaN where a class is absent.

    Counts and half counts stay below 2^24, so float32 holds them exactly.
    """
    negatives = np.flatnonzero(~truth)
    negatives = negatives[np.argsort(scores[negatives])]
    ordered = scores[negatives]
    cumulated = np.zeros((len(negatives) + 1, weights.shape[1]), dtype=np.float32)
    np.cumsum(weights[negatives], axis=0, out=cumulated[1:])
    below = cumulated[np.searchsorted(ordered, scores[truth], side="left")]
    not_above = cumulated[np.searchsorted(ordered, scores[truth], side="right")]
    beaten = np.einsum("pr,pr->r", weights[truth], (below + not_above) / 2, dtype=np.float64)
    pairs = weights[truth].sum(axis=0, dtype=np.float64) * cumulated[-1]
    return np.divide(beaten, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def _resampled_means(model: Predictions, usable: NDArray[np.intp], weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean AUC over the findings `usable` in each replicate, [R]."""
    aucs = []
    for index in usable:
        rows, labels, probabilities = model.of_finding(index)
        aucs.append(weighted_aucs(labels, probabilities, weights if len(rows) == len(weights) else weights[rows]))
    return mean_of_present(np.stack(aucs))


def mean_of_present(values: NDArray[np.float64], axis: int = 0) -> NDArray[np.float64]:
    """Mean over the axis of findings without those that are NaN; NaN where all are."""
    present = ~np.isnan(values)
    counts = present.sum(axis=axis)
    totals = np.where(present, values, 0.0).sum(axis=axis)
    return np.divide(totals, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
