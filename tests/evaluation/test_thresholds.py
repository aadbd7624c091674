from __future__ import annotations

import numpy as np
import pytest

from radflow.evaluation.predictions import Predictions
from radflow.evaluation.thresholds import youden_thresholds


def thresholds_of(labels: np.ndarray, probabilities: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    films, findings = labels.shape
    return youden_thresholds(
        Predictions(
            findings=tuple("ABC"[:findings]),
            image_ids=np.arange(films).astype(str),
            patient_ids=np.arange(films).astype(str),
            splits=np.full(films, "val"),
            labels=labels,
            probabilities=probabilities,
            known=np.ones(labels.shape, bool) if known is None else known,
        )
    )


def youden(truth: np.ndarray, above: np.ndarray) -> float:
    return above[truth].mean() + (~above[~truth]).mean() - 1


def test_a_case_by_hand() -> None:
    """0.6 takes both positives and one of three negatives: J = 1 + 2/3 - 1; any other place has less."""
    truth = np.array([[False], [False], [True], [False], [True]])
    scores = np.array([[0.1], [0.4], [0.6], [0.7], [0.9]])
    assert thresholds_of(truth, scores) == pytest.approx([0.5])


def test_no_other_threshold_is_better() -> None:
    chance = np.random.default_rng(0)
    truth = chance.random((200, 3)) < 0.2
    scores = (chance.random((200, 3)) + 0.5 * truth).round(2) / 1.5  # rounded: some films are tied
    for column, threshold in enumerate(thresholds_of(truth, scores)):
        reached = youden(truth[:, column], scores[:, column] >= threshold)
        possible = [youden(truth[:, column], scores[:, column] >= value) for value in np.linspace(0, 1, 2001)]
        assert reached == pytest.approx(max(possible))


def test_a_threshold_lies_between_the_films() -> None:
    scores = np.array([[0.2], [0.3]], np.float32)
    (threshold,) = thresholds_of(np.array([[False], [True]]), scores)
    assert threshold == pytest.approx(0.25)


def test_where_no_film_is_below_the_threshold_lies_below_the_lowest() -> None:
    scores = np.array([[0.2], [0.8]])
    assert thresholds_of(np.array([[True], [False]]), scores) == pytest.approx([0.1])


def test_a_finding_of_one_class_has_none() -> None:
    thresholds = thresholds_of(np.array([[True, False], [True, False]]), np.array([[0.1, 0.2], [0.3, 0.4]]))
    assert np.isnan(thresholds).all()


def test_films_of_which_a_finding_is_not_known_do_not_count() -> None:
    truth = np.array([[False], [True], [False], [False]])
    scores = np.array([[0.2], [0.6], [0.9], [0.95]])
    assert thresholds_of(truth, scores, np.array([[True], [True], [False], [False]])) == pytest.approx([0.4])
