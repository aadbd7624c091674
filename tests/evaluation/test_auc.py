from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from radflow.evaluation.auc import (
    FindingAuc,
    auc,
    auc_per_finding,
    auc_with_interval,
    mean_auc,
    mean_auc_interval,
)
from radflow.evaluation.predictions import Predictions

# Few different scores, so that ties are the rule.
FILMS = st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 5)), min_size=1, max_size=40)


def _count_pairs(labels: np.ndarray, scores: np.ndarray) -> float:
    positive, negative = scores[labels][:, None], scores[~labels][None, :]
    return float(((positive > negative) + 0.5 * (positive == negative)).mean())


def _implied_variance(result: FindingAuc, freedom: float) -> float:
    """The variance from which an interval on the logit scale with Student's t was made."""
    width = stats.logistic.ppf(result.high) - stats.logistic.ppf(result.low)
    error = width / (2 * stats.t.ppf(0.975, freedom)) * result.auc * (1 - result.auc)
    return float(error**2)


def _delong_by_pairs(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Variance and Satterthwaite's degrees of freedom, from the whole matrix of pairs."""
    positive, negative = scores[labels][:, None], scores[~labels][None, :]
    ordered = (positive > negative) + 0.5 * (positive == negative)
    parts = [np.var(ordered.mean(axis=axis), ddof=1) / ordered.shape[1 - axis] for axis in (1, 0)]
    m, n = ordered.shape
    return sum(parts), sum(parts) ** 2 / (parts[0] ** 2 / (m - 1) + parts[1] ** 2 / (n - 1))


def _obuchowski_by_loops(labels: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> tuple[float, float]:
    """Variance by the equations of Obuchowski 1997, patient by patient, and Satterthwaite's degrees of freedom."""
    area = _count_pairs(labels, scores)
    rows = []
    for patient in np.unique(patients):
        own = patients == patient
        beaten = sum(
            np.mean((score > scores[~labels]) + 0.5 * (score == scores[~labels])) for score in scores[own & labels]
        )
        beating = sum(
            np.mean((scores[labels] > score) + 0.5 * (scores[labels] == score)) for score in scores[own & ~labels]
        )
        rows.append((np.sum(own & labels), np.sum(own & ~labels), beaten, beating))
    m, n, v10, v01 = np.array(rows, dtype=float).T
    i10, i01, i = np.sum(m > 0), np.sum(n > 0), len(m)
    s10 = i10 / ((i10 - 1) * m.sum()) * np.sum((v10 - m * area) ** 2)
    s01 = i01 / ((i01 - 1) * n.sum()) * np.sum((v01 - n * area) ** 2)
    s11 = i / (i - 1) * np.sum((v10 - m * area) * (v01 - n * area))
    a, b = s10 / m.sum(), s01 / n.sum()
    freedom = (a + b) ** 2 / (a**2 / (i10 - 1) + b**2 / (i01 - 1))
    return a + b + 2 * s11 / (m.sum() * n.sum()), freedom


def _predictions(patients: list[str], labels: np.ndarray, probabilities: np.ndarray) -> Predictions:
    films = len(patients)
    names = tuple(f"finding {index}" for index in range(labels.shape[1]))
    return Predictions(names, [str(film) for film in range(films)], patients, ["test"] * films, labels, probabilities)


@pytest.fixture(scope="module")
def correlated() -> Predictions:
    """400 films of 80 patients: a patient's films are alike in score and often in label."""
    generator = np.random.default_rng(11)
    patients = np.repeat(np.arange(80), 5)
    labels = generator.random((400, 3)) < generator.beta([0.5, 1.0, 0.3], [1.0, 1.0, 1.2], (80, 3))[patients]
    scores = 0.8 * labels + generator.normal(size=(80, 3))[patients] + 0.3 * generator.normal(size=(400, 3))
    return _predictions([f"p{patient}" for patient in patients], labels, stats.norm.cdf(scores))


@settings(deadline=None)
@given(FILMS)
def test_auc_is_the_share_of_pairs_in_order(films: list[tuple[bool, int, int]]) -> None:
    labels, scores, _ = (np.array(column) for column in zip(*films, strict=True))
    if labels.all() or not labels.any():
        assert math.isnan(auc(labels, scores))
    else:
        assert auc(labels, scores) == pytest.approx(_count_pairs(labels, scores), abs=1e-12)
        assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert auc_with_interval(labels, scores).auc == auc(labels, scores)


def test_auc_agrees_with_scikit_learn_on_many_films_in_single_precision() -> None:
    generator = np.random.default_rng(3)
    labels = generator.random(20_000) < 0.02
    scores = generator.normal(size=20_000).astype(np.float32).round(2) + labels
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="1 of 3 are not"):
        auc([True, False, True], [0.1, bad, 0.2])


def test_labels_and_scores_that_differ_in_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        auc([True, False], [0.1, 0.2, 0.3])


def test_an_uncertain_label_is_not_taken_as_positive() -> None:
    with pytest.raises(ValueError, match="0 or 1"):
        auc([1, 0, -1], [0.1, 0.2, 0.3])


def test_delong_by_hand() -> None:
    # Positives 3, 2 and negatives 1, 2.5: shares beaten 1 and 1/2, beaten by 1 and 1/2; AUC 3/4.
    # Each sample variance is 1/8, so the variance is 1/16 + 1/16 with 2 degrees of freedom (t = 4.3027).
    result = auc_with_interval([1, 1, 0, 0], [3.0, 2.0, 1.0, 2.5])
    reach = 4.302652729911275 * math.sqrt(1 / 8) / (3 / 4 * 1 / 4)
    assert result.auc == 0.75
    assert result.low == pytest.approx(1 / (1 + math.exp(reach) / 3), rel=1e-9)
    assert result.high == pytest.approx(1 / (1 + math.exp(-reach) / 3), rel=1e-9)
    assert (result.positives, result.negatives) == (2, 2)


@pytest.mark.parametrize("seed", range(5))
def test_with_one_film_each_the_variance_is_delongs(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.arange(120) < 25
    scores = (generator.normal(size=120) + labels).round(1)
    variance, freedom = _delong_by_pairs(labels, scores)
    for patients in (None, generator.permutation(120), [""] * 120):
        result = auc_with_interval(labels, scores, patients)
        assert _implied_variance(result, freedom) == pytest.approx(variance, rel=1e-9)


def test_with_many_films_each_the_variance_is_obuchowskis(correlated: Predictions) -> None:
    for index, result in enumerate(auc_per_finding(correlated).values()):
        labels, scores = correlated.labels[:, index], correlated.probabilities[:, index]
        variance, freedom = _obuchowski_by_loops(labels, scores, correlated.patient_ids)
        assert _implied_variance(result, freedom) == pytest.approx(variance, rel=1e-9)


def test_intervals_agree_with_leaving_out_one_patient_at_a_time(correlated: Predictions) -> None:
    results = auc_per_finding(correlated)
    patients = np.unique(correlated.patient_ids)
    for index, result in enumerate(results.values()):
        without = [
            roc_auc_score(correlated.labels[kept, index], correlated.probabilities[kept, index])
            for kept in (correlated.patient_ids != patient for patient in patients)
        ]
        jackknife = (len(patients) - 1) * np.var(without)
        assert _implied_variance(result, freedom=60) == pytest.approx(jackknife, rel=0.1)


def test_films_of_one_patient_widen_the_interval(correlated: Predictions) -> None:
    labels, scores = correlated.labels[:, 0], correlated.probabilities[:, 0]
    between_patients = auc_with_interval(labels, scores, correlated.patient_ids)
    between_films = auc_with_interval(labels, scores)
    assert between_patients.auc == between_films.auc
    assert between_patients.high - between_patients.low > 1.5 * (between_films.high - between_films.low)


def test_the_interval_covers_the_truth_in_95_of_100_trials_where_films_of_a_patient_are_alike() -> None:
    generator = np.random.default_rng(5)
    truth, trials = 0.8, 500
    shift = math.sqrt(2) * stats.norm.ppf(truth)
    covered = {"patients": 0, "films": 0}
    for _ in range(trials):
        patients = np.repeat(np.arange(60), generator.integers(1, 13, 60))
        labels = generator.random(len(patients)) < generator.beta(0.5, 1.5, 60)[patients]
        own = generator.normal(size=len(patients))
        scores = math.sqrt(0.6) * generator.normal(size=60)[patients] + math.sqrt(0.4) * own + shift * labels
        for unit, ids in (("patients", patients), ("films", None)):
            result = auc_with_interval(labels, scores, ids)
            covered[unit] += result.low <= truth <= result.high
    # The binomial error of 500 trials is .01.
    assert 0.915 <= covered["patients"] / trials <= 0.98
    assert covered["films"] / trials < 0.88


def test_the_interval_covers_the_truth_with_a_handful_of_positive_films() -> None:
    generator = np.random.default_rng(6)
    labels, trials = np.arange(103) < 3, 500
    scores = generator.normal(size=(trials, 103)) + math.sqrt(2) * stats.norm.ppf(0.8) * labels
    results = [auc_with_interval(labels, row) for row in scores]
    # With the normal quantile it is .81, with DeLong's plain interval .74.
    assert sum(result.low <= 0.8 <= result.high for result in results) / trials > 0.87


@settings(deadline=None)
@given(FILMS)
def test_every_interval_holds_its_auc_and_stays_between_0_and_1(films: list[tuple[bool, int, int]]) -> None:
    labels, scores, patients = (np.array(column) for column in zip(*films, strict=True))
    result = auc_with_interval(labels, scores, patients)
    if labels.all() or not labels.any():
        assert math.isnan(result.low)
        assert math.isnan(result.high)
    else:
        assert 0 <= result.low <= result.auc + 1e-12
        assert result.auc - 1e-12 <= result.high <= 1
    assert (result.positives, result.negatives) == (labels.sum(), (~labels).sum())


@settings(deadline=None)
@given(FILMS)
def test_turning_the_scores_round_mirrors_the_result(films: list[tuple[bool, int, int]]) -> None:
    labels, scores, patients = (np.array(column) for column in zip(*films, strict=True))
    upright, turned = auc_with_interval(labels, scores, patients), auc_with_interval(labels, -scores, patients)
    expected = (1 - turned.auc, 1 - turned.high, 1 - turned.low)
    assert (upright.auc, upright.low, upright.high) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_a_perfect_auc_of_few_films_is_not_certain() -> None:
    # Three pairs of different patients in order: chance area^3, which is .025 at the bound (Clopper-Pearson).
    perfect = auc_with_interval([1] * 3 + [0] * 50, [2.0] * 3 + [1.0] * 50)
    assert (perfect.low, perfect.high) == (pytest.approx(stats.beta.ppf(0.025, 3, 1)), 1.0)
    worst = auc_with_interval([1] * 3 + [0] * 50, [1.0] * 3 + [2.0] * 50)
    assert (worst.low, worst.high) == (0.0, pytest.approx(1 - stats.beta.ppf(0.025, 3, 1)))


def test_a_perfect_auc_counts_pairs_of_different_patients_only() -> None:
    # Three patients with a film of each class: only one pair can be formed without using a patient twice.
    result = auc_with_interval([1, 0] * 3, [2.0, 1.0] * 3, ["a", "a", "b", "b", "c", "c"])
    assert (result.low, result.high) == (pytest.approx(0.025), 1.0)


def test_a_single_positive_patient_says_nothing_however_many_films() -> None:
    result = auc_with_interval([1] * 6 + [0] * 50, np.arange(56), ["one"] * 6 + [f"p{i}" for i in range(50)])
    assert (result.low, result.high) == (0.0, 1.0)


def test_equal_scores_are_exactly_chance() -> None:
    result = auc_with_interval([1, 1, 0, 0, 0], [0.5] * 5)
    assert (result.auc, result.low, result.high) == (0.5, 0.5, 0.5)


def test_patient_ids_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"patient_ids has shape \(1,\); expected \(2,\)"):
        auc_with_interval([1, 0], [0.1, 0.2], ["a"])


def test_each_finding_gets_its_own_column_and_the_mean_leaves_out_what_cannot_be_known() -> None:
    labels = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 0, 1]], dtype=bool)
    probabilities = np.array([[0.9, 0.1, 0.5], [0.2, 0.2, 0.5], [0.4, 0.3, 0.1], [0.1, 0.4, 0.9]])
    results = auc_per_finding(_predictions(["a", "b", "c", "d"], labels, probabilities))
    assert list(results) == ["finding 0", "finding 1", "finding 2"]
    assert results["finding 0"].auc == 0.75
    assert math.isnan(results["finding 1"].auc)
    assert (results["finding 1"].positives, results["finding 1"].negatives) == (0, 4)
    assert results["finding 2"].auc == 0.875
    assert mean_auc(results) == (0.75 + 0.875) / 2
    assert math.isnan(mean_auc({"finding 1": results["finding 1"]}))
    assert math.isnan(mean_auc({}))


def test_the_mean_interval_is_that_of_a_plain_bootstrap_of_patients(correlated: Predictions) -> None:
    generator = np.random.default_rng(8)
    patients = np.unique(correlated.patient_ids)
    rows = {patient: np.flatnonzero(correlated.patient_ids == patient) for patient in patients}
    means = []
    for _ in range(1000):
        drawn = np.concatenate([rows[patient] for patient in generator.choice(patients, len(patients))])
        labels, probabilities = correlated.labels[drawn], correlated.probabilities[drawn]
        means.append(np.mean([_count_pairs(labels[:, finding], probabilities[:, finding]) for finding in range(3)]))
    expected = np.quantile(means, [0.025, 0.975])
    # The spread of the mean is .03; the ends of 1000 replicates are known to a tenth of that.
    np.testing.assert_allclose(mean_auc_interval(correlated, replicates=2000), expected, atol=0.008)


def test_the_mean_interval_depends_on_the_seed_alone(correlated: Predictions) -> None:
    first = mean_auc_interval(correlated, replicates=130, seed=4)
    assert mean_auc_interval(correlated, replicates=130, seed=4) == first
    assert mean_auc_interval(correlated, replicates=130, seed=5) != first


def test_the_mean_interval_counts_a_tie_as_half() -> None:
    labels = np.arange(40)[:, None] % 4 == 0
    predictions = _predictions([f"p{film}" for film in range(40)], labels, np.full((40, 1), 0.3))
    assert mean_auc_interval(predictions, replicates=20) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("patients", "labels"),
    [([], np.zeros((0, 2))), (["a", "b"], np.zeros((2, 2))), (["a", "a"], np.array([[1, 0], [0, 1]]))],
)
def test_without_two_patients_or_two_classes_the_mean_has_no_interval(patients: list[str], labels: np.ndarray) -> None:
    low, high = mean_auc_interval(_predictions(patients, labels, np.full(labels.shape, 0.5)), replicates=10)
    assert math.isnan(low)
    assert math.isnan(high)


@settings(max_examples=20, deadline=None)
@given(FILMS)
def test_the_mean_interval_stays_between_0_and_1_when_classes_vanish(films: list[tuple[bool, int, int]]) -> None:
    labels, scores, patients = (np.array(column) for column in zip(*films, strict=True))
    predictions = _predictions([f"p{p}" for p in patients], labels[:, None], scores[:, None] / 6)
    low, high = mean_auc_interval(predictions, replicates=20)
    assert (math.isnan(low) and math.isnan(high)) or 0 <= low <= high <= 1
