from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, brier_score_loss

from benchmarks.drawn_predictions import drawn_predictions, predictions_of
from benchmarks.interval_coverage import Kind, covers, true_values
from radflow.evaluation.measures import (
    BINS,
    mean_measures,
    measure,
    probability_groups,
    weighted_average_precisions,
)

# Few different scores, so that ties are the rule; films may be drawn twice or not at all.
FILMS = st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=40)


@given(FILMS)
@settings(deadline=None)
def test_average_precision_is_that_of_scikit_learn_whatever_the_weights_and_ties(films) -> None:
    labels, scores, weights = (np.array(column) for column in zip(*films, strict=True))
    (found,) = weighted_average_precisions(labels, scores / 6, weights[:, np.newaxis].astype(np.float32))
    if weights[labels].sum() == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(average_precision_score(labels, scores, sample_weight=weights), abs=1e-6)


def test_all_three_are_those_of_scikit_learn_on_known_films() -> None:
    chance = np.random.default_rng(3)
    predictions = drawn_predictions(3000, 3, chance, slope=1.5, findings=2)
    known = chance.random(predictions.labels.shape) < 0.8
    tested = predictions_of(predictions.labels & known, predictions.probabilities, known=known)
    for index, (finding, found) in enumerate(measure(tested, replicates=10).items()):
        _, truth, scores = tested.of_finding(index)
        share, mean = calibration_curve(truth, scores, n_bins=BINS, strategy="quantile")
        groups = np.bincount(probability_groups(scores.astype(float)), minlength=BINS)
        assert finding == "AB"[index]
        assert found.average_precision.value == pytest.approx(average_precision_score(truth, scores), abs=1e-6)
        assert found.brier.value == pytest.approx(brier_score_loss(truth, scores), abs=1e-6)
        assert found.calibration_error.value == pytest.approx(np.sum(groups * abs(share - mean)) / len(truth), abs=1e-6)


def test_a_case_by_hand() -> None:
    """Precision is 1, then 2/3, at the positives; errors .1, .2, .3, .4; every film is a group of its own."""
    found = measure(predictions_of(np.array([[1], [0], [1], [0]], bool), np.array([[0.9], [0.8], [0.7], [0.4]])))["A"]
    assert found.average_precision.value == pytest.approx((1 + 2 / 3) / 2)
    assert found.brier.value == pytest.approx((0.01 + 0.64 + 0.09 + 0.16) / 4)
    assert found.calibration_error.value == pytest.approx((0.1 + 0.8 + 0.3 + 0.4) / 4)


def test_the_intervals_hold_the_numbers_and_narrow_with_films() -> None:
    chance = np.random.default_rng(5)
    widths = []
    for films in (400, 6400):
        found = measure(drawn_predictions(films, 2, chance, slope=2.0))["A"]
        for estimate in vars(found).values():
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        widths.append([estimate.high - estimate.low for estimate in vars(found).values()])
    assert np.array(widths[0]) == pytest.approx(4 * np.array(widths[1]), rel=0.5)


def test_the_films_of_a_patient_count_as_one_where_they_are_the_same() -> None:
    once = drawn_predictions(600, 1, np.random.default_rng(7), slope=2.0)
    rows = np.repeat(np.arange(600), 4)
    copies = predictions_of(once.labels[rows], once.probabilities[rows], rows)
    for one, four in zip(vars(measure(once)["A"]).values(), vars(measure(copies)["A"]).values(), strict=True):
        assert four.high - four.low == pytest.approx(one.high - one.low, rel=0.1)


def test_probabilities_that_are_right_may_have_no_calibration_error() -> None:
    """The lower end is 0 in nearly all draws although the number, a sum of absolute values, never is."""
    chance = np.random.default_rng(11)
    ends = [measure(drawn_predictions(900, 3, chance), 100)["A"].calibration_error.low for _ in range(40)]
    assert np.mean(np.array(ends) == 0) > 0.9


def test_without_both_classes_or_films_there_is_nothing_to_measure() -> None:
    labels = np.zeros((4, 2), bool)
    known = np.array([[True, False]] * 4)
    found = measure(predictions_of(labels, np.full((4, 2), 0.25), known=known))
    assert not found["A"].average_precision.is_known
    assert found["A"].brier.value == pytest.approx(0.0625)
    assert not any(estimate.is_known for estimate in vars(found["B"]).values())
    assert mean_measures(found)["brier"] == pytest.approx(0.0625)
    assert np.isnan(mean_measures(found)["average_precision"])


def test_a_single_patient_has_numbers_and_no_narrow_interval() -> None:
    found = measure(predictions_of(np.array([[1], [0]], bool), np.array([[0.9], [0.2]]), np.zeros(2)))["A"]
    assert (found.brier.low, found.brier.high) == (0, 1)
    assert found.average_precision.value == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Kind(1000, 1, 2.0), Kind(1500, 3, 1.0), Kind(3000, 3, 1.15)], ids=str)
def test_intervals_cover_the_truth_in_95_of_100_tests(kind: Kind) -> None:
    """Where 95 % is true, 91.5 to 98.5 % of 400 tests cover; `benchmarks.interval_coverage` takes 2,000 of a kind."""
    truth = true_values(kind)
    covered = np.mean([covers(kind, truth, seed) for seed in range(400)], axis=0)
    assert (np.abs(covered - 0.95) <= 0.035).all(), dict(zip(truth, covered, strict=True))
