"""Labels that are not known count nowhere: every figure is that of the films of which the finding is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from radflow.errors import UserError
from radflow.evaluation.auc import auc_per_finding, auc_with_interval, mean_auc, mean_auc_interval, resampled_mean_aucs
from radflow.evaluation.comparison import compare_paired
from radflow.evaluation.cross_entropy import mean_cross_entropy
from radflow.evaluation.groups import joined
from radflow.evaluation.predictions import Predictions

FILMS = 400


@pytest.fixture
def predictions() -> Predictions:
    """Two findings on films of 200 patients; of a third of the films the second one is not known."""
    random = np.random.default_rng(3)
    truth = random.random((FILMS, 2)) < 0.3
    known = np.stack([np.ones(FILMS, bool), random.random(FILMS) < 0.66], axis=1)
    return Predictions(
        findings=("Mass", "Edema"),
        image_ids=np.arange(FILMS).astype(str),
        patient_ids=(np.arange(FILMS) // 2).astype(str),
        splits=np.full(FILMS, "test"),
        labels=truth & known,
        known=known,
        probabilities=np.clip(0.5 * random.random((FILMS, 2)) + 0.3 * truth, 0, 1),
    )


def test_the_auc_is_that_of_the_films_of_which_the_finding_is_known(predictions: Predictions) -> None:
    results = auc_per_finding(predictions)
    rows = predictions.known[:, 1]
    labels, scores = predictions.labels[rows, 1], predictions.probabilities[rows, 1]
    assert results["Edema"].auc == pytest.approx(roc_auc_score(labels, scores))
    assert results["Edema"] == auc_with_interval(labels, scores, predictions.patient_ids[rows])
    assert (results["Edema"].positives, results["Edema"].negatives) == (labels.sum(), (~labels).sum())


def test_the_cross_entropy_is_the_mean_over_all_known_labels(predictions: Predictions) -> None:
    known = predictions.known.ravel()
    expected = log_loss(predictions.labels.ravel()[known], predictions.probabilities.ravel()[known].astype(float))
    assert mean_cross_entropy(predictions) == pytest.approx(expected)


def test_bootstrap_draws_weigh_known_labels_alone(predictions: Predictions) -> None:
    """What a model says where nothing is known changes no replicate; the interval lies around the mean."""
    other = np.where(predictions.known, predictions.probabilities, 1 - predictions.probabilities)
    both = resampled_mean_aucs([predictions, replace(predictions, probabilities=other)], 50, seed=1)
    np.testing.assert_array_equal(both[0], both[1])
    low, high = mean_auc_interval(predictions)
    assert low < mean_auc(auc_per_finding(predictions)) < high


def test_a_finding_known_of_one_class_only_has_no_auc(predictions: Predictions) -> None:
    positives = replace(predictions, known=predictions.labels)
    assert np.isnan(auc_per_finding(positives)["Edema"].auc)
    assert not positives.has_both_classes.any()


def test_models_tested_on_labels_known_of_different_films_are_not_compared(predictions: Predictions) -> None:
    with pytest.raises(UserError, match="labels of"):
        compare_paired(predictions, replace(predictions, known=np.ones_like(predictions.known)))


def test_a_lesion_s_crops_are_joined_with_what_is_not_known(predictions: Predictions) -> None:
    crops = replace(
        predictions.take(np.arange(4)),
        lesion_ids=["a", "a", "b", "b"],
        film_ids=["x", "x", "y", "y"],
        patient_ids=["1", "1", "2", "2"],
        labels=[[1, 0], [1, 0], [0, 1], [0, 1]],
        known=[[1, 0], [1, 0], [1, 1], [1, 1]],
    )
    for group in ("lesion", "film"):
        units = joined(crops, group)
        assert sorted(map(tuple, units.known.tolist())) == [(True, False), (True, True)]
