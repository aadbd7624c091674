from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, special, stats
from sklearn.calibration import _SigmoidCalibration
from sklearn.metrics import roc_auc_score

from benchmarks.drawn_predictions import drawn_predictions, predictions_of
from radflow.evaluation.calibration import LEAST_SLOPE, PRIOR_DEVIATION, fit_platt, log_odds
from radflow.evaluation.measures import measure
from radflow.inference.description import Calibration


def test_many_films_are_fitted_as_scikit_learn_fits_platt_s_sigmoid() -> None:
    """scikit-learn's logistic(-(a f + b)), a private class without a prior, on the log-odds as scores."""
    predictions = drawn_predictions(40_000, 1, np.random.default_rng(0), slope=2.5)
    slopes, offsets = fit_platt(predictions)
    reference = _SigmoidCalibration().fit(log_odds(predictions.probabilities[:, 0]), predictions.labels[:, 0])
    assert (slopes[0], offsets[0]) == pytest.approx((-reference.a_, -reference.b_), abs=0.01)


def test_it_is_the_maximum_of_likelihood_and_prior() -> None:
    predictions = drawn_predictions(300, 1, np.random.default_rng(1), slope=0.5)
    sign, odds = np.where(predictions.labels[:, 0], 1, -1), log_odds(predictions.probabilities[:, 0])

    def posterior(values: np.ndarray) -> float:
        likelihood = special.expit(sign * (values[0] * odds + values[1]))
        prior = stats.norm.pdf(values[0], 1, PRIOR_DEVIATION) * stats.norm.pdf(values[1], 0, PRIOR_DEVIATION)
        return -float(np.log(likelihood).sum() + np.log(prior))

    expected = optimize.minimize(posterior, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).x
    slopes, offsets = fit_platt(predictions)
    assert [slopes[0], offsets[0]] == pytest.approx(expected, abs=1e-3)


def test_probabilities_that_are_too_sure_come_true_and_rank_films_as_before() -> None:
    chance = np.random.default_rng(2)
    fitted = Calibration(*fit_platt(drawn_predictions(4000, 2, chance, slope=3.0)))
    tested = drawn_predictions(4000, 2, chance, slope=3.0)
    shown = fitted(tested.probabilities)
    before = measure(tested, 10)["A"].calibration_error.value
    after = measure(predictions_of(tested.labels, shown), 10)["A"].calibration_error.value
    assert before > 0.05
    assert after < 0.02
    assert roc_auc_score(tested.labels, shown) == pytest.approx(roc_auc_score(tested.labels, tested.probabilities))


def test_few_films_change_little_and_one_class_nothing() -> None:
    chance = np.random.default_rng(4)
    few = drawn_predictions(30, 1, chance, slope=3.0)
    many = drawn_predictions(3000, 1, chance, slope=3.0)
    moved = [abs(fit_platt(each)[0][0] - 1) for each in (few, many)]
    assert moved[0] < moved[1]
    slopes, offsets = fit_platt(predictions_of(np.zeros((50, 1), bool), chance.random((50, 1))))
    assert (slopes[0], offsets[0]) == (1, 0)


def test_probabilities_that_say_the_wrong_thing_keep_their_order_at_the_right_level() -> None:
    chance = np.random.default_rng(6)
    scores = chance.random((4000, 1))
    labels = chance.random((4000, 1)) < 0.4 - 0.3 * scores
    slopes, offsets = fit_platt(predictions_of(labels, scores))
    assert slopes[0] == LEAST_SLOPE
    assert Calibration(slopes, offsets)(scores).mean() == pytest.approx(labels.mean(), abs=0.05)


def test_probabilities_of_0_and_1_stay_finite() -> None:
    calibration = Calibration(np.array([2.0]), np.array([0.5]))
    shown = calibration(np.array([[0.0], [1.0], [np.nan]]))
    assert np.isfinite(shown[:2]).all()
    assert np.isnan(shown[2, 0])
