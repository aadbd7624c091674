"""The comparison of two ways of training: right on average where there is nothing, and where there is something."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from radflow.errors import UserError
from radflow.evaluation.predictions import Predictions
from radflow.evaluation.repeated import compare_repeated, compare_resampled, resample

PATIENTS, FILMS_OF_PATIENT = 40, 4


def trainings(
    random: np.random.Generator, separations: list[float], noise: float = 1.0
) -> tuple[list[Predictions], np.ndarray]:
    """Models that separate the classes so well, on the same films; films of a patient are alike."""
    films = PATIENTS * FILMS_OF_PATIENT
    patients = np.repeat(np.arange(PATIENTS), FILMS_OF_PATIENT)
    labels = np.arange(films) % 2 == 0
    hard = random.normal(size=PATIENTS)[patients] + 0.5 * random.normal(size=films)
    models = []
    for separation in separations:
        scores = 1 / (1 + np.exp(-(separation * labels + hard + noise * random.normal(size=films))))
        ids = np.array([f"film{number}" for number in range(films)])
        split = np.full(films, "test")
        models.append(Predictions(("Tumour",), ids, patients.astype(str), split, labels[:, None], scores[:, None]))
    return models, labels


def test_the_difference_is_that_of_sklearn():
    models, labels = trainings(np.random.default_rng(0), [2, 2, 2, 1, 1, 1])
    areas = [roc_auc_score(labels, model.probabilities[:, 0]) for model in models]
    result = compare_repeated(models[:3], models[3:])
    assert result.difference == pytest.approx(np.mean(areas[:3]) - np.mean(areas[3:]))
    assert result.between_seeds == pytest.approx(stats.sem(np.subtract(areas[:3], areas[3:])))
    assert (result.seeds, result.patients) == (3, PATIENTS)
    assert result.low < result.difference < result.high


def test_a_clear_difference_is_found_and_its_sign_is_right():
    models, _ = trainings(np.random.default_rng(1), [3, 3, 3, 0.3, 0.3, 0.3])
    better, worse = compare_repeated(models[:3], models[3:]), compare_repeated(models[3:], models[:3])
    assert better.p_value < 0.01
    assert better.low > 0
    assert worse.difference == pytest.approx(-better.difference)
    assert worse.p_value == pytest.approx(better.p_value)


def test_equal_models_are_not_different():
    models, _ = trainings(np.random.default_rng(2), [1, 1, 1])
    result = compare_repeated(models, models)
    assert (result.difference, result.p_value, result.low, result.high) == (0, 1, 0, 0)


def test_where_there_is_nothing_it_seldom_finds_something():
    """Of 60 comparisons of one way of training with itself, about 3 or fewer may have p below 0.05."""
    found = 0
    for number in range(60):
        models, _ = trainings(np.random.default_rng((3, number)), [1] * 6)
        found += compare_repeated(models[:3], models[3:], seed=number).p_value < 0.05
    assert found <= 6


def test_one_seed_leaves_the_seeds_out():
    models, _ = trainings(np.random.default_rng(4), [2, 1])
    result = compare_repeated(models[:1], models[1:])
    assert np.isnan(result.between_seeds)
    assert np.isfinite(result.p_value)


def test_the_interval_stays_within_what_can_be():
    """Two seeds that disagree say little: with one degree of freedom the t quantile is 12.7."""
    models, _ = trainings(np.random.default_rng(6), [4, 0, 0, 1])
    result = compare_repeated(models[:2], models[2:])
    assert (result.low, result.high) == (-1, 1)


def test_what_cannot_be_paired():
    models, _ = trainings(np.random.default_rng(5), [2, 1, 1])
    with pytest.raises(UserError, match="cannot be paired"):
        compare_repeated(models[:2], models[2:])
    other = models[1].of_split("test")
    object.__setattr__(other, "image_ids", other.image_ids[::-1])
    with pytest.raises(UserError, match="different films"):
        compare_repeated(models[:1], [other])


def test_models_resampled_one_by_one_are_paired_all_the_same():
    models, _ = trainings(np.random.default_rng(7), [2, 2, 2, 1, 1, 1])
    alone = [resample([model])[0] for model in models]
    assert compare_resampled(alone[:3], alone[3:]) == compare_repeated(models[:3], models[3:])


def test_pairing_by_patients_narrows_the_interval():
    """The models share what makes a patient hard: unpaired, its variance would count twice."""
    models, _ = trainings(np.random.default_rng(8), [1, 1], noise=0.2)
    one, other = resample(models)
    paired = compare_resampled([one], [other]).between_patients
    shuffled = replace(other, resampled=np.random.default_rng(0).permutation(other.resampled))
    assert paired < 0.5 * compare_resampled([one], [shuffled]).between_patients
