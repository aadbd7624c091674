from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from radflow.errors import UserError
from radflow.evaluation.comparison import compare_paired
from radflow.evaluation.predictions import Predictions


def _predictions(labels: np.ndarray, scores: np.ndarray, patients: np.ndarray | None = None) -> Predictions:
    films = len(labels)
    names = tuple(f"finding {index}" for index in range(labels.shape[1]))
    ids = [f"film {film:05d}" for film in range(films)]
    of = [f"p{patient}" for patient in (np.arange(films) if patients is None else patients)]
    return Predictions(names, ids, of, ["test"] * films, labels, stats.norm.cdf(scores))


def _pair(seed: int, films: int = 300, gain: float = 0.5) -> tuple[Predictions, Predictions]:
    """Two models of one finding that err on the same films; the first is better by `gain`."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(films) % 4 == 0)[:, None]
    shared = labels + generator.normal(size=(films, 1))
    first = shared + gain * labels + 0.5 * generator.normal(size=(films, 1))
    return _predictions(labels, first), _predictions(labels, shared + 0.5 * generator.normal(size=(films, 1)))


def _delong_paired(first: Predictions, second: Predictions) -> tuple[float, float]:
    """Difference and its standard error by DeLong 1988, from the whole matrices of pairs."""
    truth = first.labels[:, 0]
    placements = []
    for model in (first, second):
        scores = model.probabilities[:, 0]
        positive, negative = scores[truth][:, None], scores[~truth][None, :]
        ordered = (positive > negative) + 0.5 * (positive == negative)
        placements.append((ordered.mean(axis=1), ordered.mean(axis=0)))
    of_positives = np.cov([each[0] for each in placements]) / truth.sum()
    of_negatives = np.cov([each[1] for each in placements]) / (~truth).sum()
    covariance = of_positives + of_negatives
    difference = placements[0][0].mean() - placements[1][0].mean()
    return difference, float(np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))


@pytest.mark.parametrize(("seed", "gain"), [(0, 0.5), (1, 0.2), (2, 0.0), (3, -0.3)])
def test_one_finding_agrees_with_delong(seed: int, gain: float) -> None:
    first, second = _pair(seed, gain=gain)
    difference, error = _delong_paired(first, second)
    found = compare_paired(first, second, replicates=4000)
    assert found.difference == pytest.approx(difference, abs=1e-12)
    # Ends of 4000 draws are known to about .04 of the standard error; the bootstrap is a little skewed besides.
    assert found.low == pytest.approx(difference - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(difference + 1.96 * error, abs=0.2 * error)
    delong = 2 * stats.norm.sf(abs(difference) / error)
    assert found.p_value == pytest.approx(delong, abs=0.02, rel=0.25)


def test_a_p_value_agrees_with_exchanging_the_models_patient_by_patient() -> None:
    generator = np.random.default_rng(7)
    patients = np.repeat(np.arange(60), 4)
    labels = generator.random((240, 3)) < 0.3
    shared = labels + generator.normal(size=(60, 3))[patients]
    scores = [shared + gain * labels + generator.normal(size=(240, 3)) for gain in (0.35, 0.0)]
    first, second = (_predictions(labels, each, patients) for each in scores)

    def mean_area(values: np.ndarray) -> float:
        """By Wilcoxon's rank sums."""
        ranks, positives = stats.rankdata(values, axis=0), labels.sum(axis=0)
        sums = (ranks * labels).sum(axis=0) - positives * (positives + 1) / 2
        return float(np.mean(sums / (positives * (len(labels) - positives))))

    def difference(exchanged: np.ndarray) -> float:
        swap = exchanged[patients][:, None]
        pair = np.where(swap, scores[1], scores[0]), np.where(swap, scores[0], scores[1])
        return mean_area(pair[0]) - mean_area(pair[1])

    observed = difference(np.zeros(60, dtype=bool))
    exchanges = [difference(generator.random(60) < 0.5) for _ in range(2000)]
    permutation = np.mean(np.abs(exchanges) >= abs(observed))
    found = compare_paired(first, second)
    assert found.difference == pytest.approx(observed, abs=1e-6)
    assert (found.films, found.patients) == (240, 60)
    assert 0.005 < permutation < 0.2
    assert found.p_value == pytest.approx(permutation, abs=0.03)


def test_films_of_one_patient_are_no_independent_evidence() -> None:
    first, second = _pair(1, films=60, gain=0.4)
    repeated = [
        _predictions(np.repeat(each.labels, 9, axis=0), np.repeat(stats.norm.ppf(each.probabilities), 9, axis=0), ids)
        for ids in (np.repeat(np.arange(60), 9), None)
        for each in (first, second)
    ]
    once, of_patients, of_films = (
        compare_paired(*pair) for pair in ((first, second), tuple(repeated[:2]), tuple(repeated[2:]))
    )
    assert of_patients.p_value == pytest.approx(once.p_value, abs=0.03)
    assert of_films.p_value < 0.5 * once.p_value


def test_no_difference_is_found_in_95_of_100_comparisons_without_one() -> None:
    found = [compare_paired(*_pair(seed, films=120, gain=0.0), replicates=300) for seed in range(200)]
    # The binomial error of 200 comparisons is .015.
    assert 0.90 <= np.mean([each.low <= 0 <= each.high for each in found]) <= 0.99
    assert np.mean([each.p_value < 0.5 for each in found]) == pytest.approx(0.5, abs=0.12)


def test_a_model_is_not_better_than_itself_however_its_films_are_ordered() -> None:
    model, _ = _pair(0)
    turned = dataclasses.replace(
        model, **{name: getattr(model, name)[::-1] for name in ("image_ids", "patient_ids", "labels", "probabilities")}
    )
    found = compare_paired(model, turned)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_exchanging_the_models_turns_the_sign_and_the_seed_decides_the_rest() -> None:
    first, second = _pair(3)
    there, back = compare_paired(first, second), compare_paired(second, first)
    assert (back.difference, back.p_value) == (-there.difference, there.p_value)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert compare_paired(first, second) == there
    assert compare_paired(first, second, seed=1) != there


def test_a_higher_confidence_widens_the_interval() -> None:
    first, second = _pair(4)
    wide, narrow = compare_paired(first, second, confidence=0.99), compare_paired(first, second, confidence=0.8)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"findings": ("Hernia",)}, r"their findings differ \(finding 0 and Hernia\)"),
        (
            {"image_ids": [f"film {film:05d}" for film in range(1, 301)]},
            r"different films .* 2 are in one only, such as film 00000",
        ),
        ({"patient_ids": ["p0"] * 300}, "the patients of 299 films differ, such as film 00001"),
        ({"labels": np.zeros((300, 1))}, "the labels of 75 films differ, such as film 00000"),
    ],
)
def test_other_films_are_not_compared(change: dict[str, object], says: str) -> None:
    first, second = _pair(0)
    with pytest.raises(UserError, match=says):
        compare_paired(first, dataclasses.replace(second, **change))


@pytest.mark.parametrize("labels", [np.zeros((4, 1)), np.array([[1], [0], [1], [0]])])
def test_without_two_classes_or_two_patients_there_is_nothing_to_compare(labels: np.ndarray) -> None:
    model = _predictions(labels.astype(bool), np.zeros((4, 1)), np.zeros(4, dtype=int))
    with pytest.raises(UserError, match="no finding has positive and negative films of two patients"):
        compare_paired(model, model)
