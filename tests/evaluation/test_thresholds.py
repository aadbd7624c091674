from __future__ import annotations

import numpy as np
import pytest

from radflow.evaluation.thresholds import youden_thresholds


def youden(truth: np.ndarray, above: np.ndarray) -> float:
    return above[truth].mean() + (~above[~truth]).mean() - 1


def test_a_case_by_hand() -> None:
    """0.6 takes both positives and one of three negatives: J = 1 + 2/3 - 1; any other place has less."""
    truth = np.array([[False], [False], [True], [False], [True]])
    scores = np.array([[0.1], [0.4], [0.6], [0.7], [0.9]])
    assert youden_thresholds(truth, scores) == pytest.approx([0.5])


def test_no_other_threshold_is_better() -> None:
    chance = np.random.default_rng(0)
    truth = chance.random((200, 3)) < 0.2
    scores = (chance.random((200, 3)) + 0.5 * truth).round(2) / 1.5  # rounded: some films are tied
    for column, threshold in enumerate(youden_thresholds(truth, scores)):
        reached = youden(truth[:, column], scores[:, column] >= threshold)
        possible = [youden(truth[:, column], scores[:, column] >= value) for value in np.linspace(0, 1, 2001)]
        assert reached == pytest.approx(max(possible))


def test_a_threshold_lies_between_the_films() -> None:
    scores = np.array([[0.2], [0.3]], np.float32)
    (threshold,) = youden_thresholds(np.array([[False], [True]]), scores)
    assert threshold == pytest.approx(0.25)


def test_where_no_film_is_below_the_threshold_lies_below_the_lowest() -> None:
    scores = np.array([[0.2], [0.8]])
    assert youden_thresholds(np.array([[True], [False]]), scores) == pytest.approx([0.1])


def test_a_finding_of_one_class_has_none() -> None:
    thresholds = youden_thresholds(np.array([[True, False], [True, False]]), np.array([[0.1, 0.2], [0.3, 0.4]]))
    assert np.isnan(thresholds).all()
