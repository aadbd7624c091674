from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from benchmarks.drawn_predictions import drawn_predictions, predictions_of
from radflow.evaluation.thresholds import FIXED_SHARE, choose_thresholds, operating_points


def thresholds_of(
    labels: np.ndarray, probabilities: np.ndarray, known: np.ndarray | None = None, rule: str = "youden"
) -> np.ndarray:
    return choose_thresholds(predictions_of(labels, probabilities, known=known))[rule]


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


def test_fixed_shares_are_reached_and_by_no_better_threshold() -> None:
    """The sensitive threshold is the highest that reaches its share, the specific one the lowest."""
    drawn = drawn_predictions(1000, 1, np.random.default_rng(1))
    chosen = choose_thresholds(drawn)
    truth, scores = drawn.labels[:, 0], drawn.probabilities[:, 0].astype(float)
    sensitive, specific = float(chosen["sensitive"][0]), float(chosen["specific"][0])
    assert (scores[truth] >= sensitive).mean() >= FIXED_SHARE
    assert (scores[~truth] < specific).mean() >= FIXED_SHARE
    stricter, laxer = scores[scores > sensitive].min() + 1e-9, scores[scores < specific].max()
    assert (scores[truth] >= stricter).mean() < FIXED_SHARE or stricter > scores[truth].max()
    assert (scores[~truth] < laxer).mean() < FIXED_SHARE


def test_what_a_threshold_comes_to_is_what_scikit_learn_counts() -> None:
    drawn = drawn_predictions(800, 2, np.random.default_rng(3), findings=2)
    points = operating_points(drawn, np.array([0.2, np.nan]))
    point = points["A"]
    assert point is not None
    true_negative, false_positive, false_negative, true_positive = confusion_matrix(
        drawn.labels[:, 0], drawn.probabilities[:, 0] >= 0.2
    ).ravel()
    assert point.sensitivity.value == pytest.approx(true_positive / (true_positive + false_negative))
    assert point.specificity.value == pytest.approx(true_negative / (true_negative + false_positive))
    assert point.ppv.value == pytest.approx(true_positive / (true_positive + false_positive))
    assert point.npv.value == pytest.approx(true_negative / (true_negative + false_negative))
    assert points["B"] is None
