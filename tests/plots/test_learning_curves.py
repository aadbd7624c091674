from __future__ import annotations

import math

import numpy as np
import pytest
from drawn_figures import draw, texts_of

from radflow.plots.learning_curves import learning_curves_figure, learning_rate_figure


def test_learning_curves_follow_the_history_and_leave_gaps() -> None:
    history = [
        {"train/loss": 0.5, "val/loss": 0.6, "val/auc/mean": 0.55, "optim/learning_rate": 1e-4},
        {"train/loss": 0.4, "optim/learning_rate": 5e-4},
        {"train/loss": 0.3, "val/loss": 0.4, "val/auc/mean": math.nan, "optim/learning_rate": 5e-4},
    ]
    figure = learning_curves_figure(history, "title")
    draw(figure)
    loss, area, rate = figure.axes
    curves = {line.get_label(): line for line in loss.lines}
    assert curves["training"].get_xdata().tolist() == [1, 2, 3]
    assert curves["training"].get_ydata().tolist() == [0.5, 0.4, 0.3]
    np.testing.assert_array_equal(curves["validation"].get_ydata(), [0.6, math.nan, 0.4])
    np.testing.assert_array_equal(area.lines[0].get_ydata(), [0.55, math.nan, math.nan])
    assert rate.lines[0].get_ydata().tolist() == [1e-4, 5e-4, 5e-4]


def test_an_empty_history_says_so() -> None:
    figure = learning_curves_figure([], "title")
    draw(figure)
    assert texts_of(figure).count("nothing logged") == 3


def test_learning_rate_figure_draws_every_point_within_labelled_axes() -> None:
    figure = learning_rate_figure([0.0, 0.5, 2.8], [0.0, 3e-4, 1e-4], "title")
    draw(figure)
    (axes,) = figure.axes
    assert axes.lines[0].get_xdata().tolist() == [0.0, 0.5, 2.8]
    assert axes.lines[0].get_ydata().tolist() == [0.0, 3e-4, 1e-4]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Epochs of training", "Learning rate")
    assert axes.get_xlim() == (0, 3)
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > 3e-4


@pytest.mark.parametrize("rates", [[], [0.0, 0.0]])
def test_learning_rates_of_nothing_aredraw(rates: list[float]) -> None:
    figure = learning_rate_figure([0.0, 1.0][: len(rates)], rates, "nothing yet")
    draw(figure)
    assert "nothing yet" in texts_of(figure)
    assert list(figure.axes[0].lines[0].get_ydata()) == rates
