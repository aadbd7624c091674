from __future__ import annotations

import math
from io import BytesIO

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import roc_auc_score

from radflow.data.readers.findings import FINDINGS, RELEASED_COUNTS, RELEASED_FILMS
from radflow.evaluation.auc import auc_per_finding
from radflow.evaluation.predictions import Predictions
from radflow.plots.figures import (
    LITERATURE_AUCS,
    auc_figure,
    co_occurrence_figure,
    frequency_figure,
    learning_curves_figure,
    learning_rate_figure,
    prevalence_figure,
    roc_figure,
)


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    """200 films of 100 patients; no film shows a hernia."""
    generator = np.random.default_rng(2)
    labels = generator.random((200, 14)) < 0.3
    labels[:, FINDINGS.index("Hernia")] = False
    probabilities = 1 / (1 + np.exp(-generator.normal(size=(200, 14)) - labels))
    ids = [f"{film:08d}_000.png" for film in range(200)]
    return Predictions(FINDINGS, ids, [f"{film // 2}" for film in range(200)], ["test"] * 200, labels, probabilities)


def _drawn(figure: Figure) -> np.ndarray:
    """The pixels of the PNG that a user opens, checked to be 1000 wide and not blank."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    with Image.open(buffer) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] == 1000
    assert 150 < pixels.shape[0] < 1000
    assert pixels.std() > 5
    return pixels


def _texts(figure: Figure) -> str:
    """Every visible word of the figure."""
    words = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return "\n".join(words)


def _sklearn_auc(predictions: Predictions, finding: str) -> float:
    index = predictions.findings.index(finding)
    return float(roc_auc_score(predictions.labels[:, index], predictions.probabilities[:, index]))


def test_auc_figure_shows_each_finding_in_order_with_its_numbers(predictions: Predictions) -> None:
    figure = auc_figure(auc_per_finding(predictions), "a model on films, test")
    _drawn(figure)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [name.replace("_", " ") for name in FINDINGS]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first finding is at the top
    texts = _texts(figure)
    for finding in FINDINGS[:-1]:
        assert f"{_sklearn_auc(predictions, finding):.3f} (" in texts
    mean = np.mean([_sklearn_auc(predictions, finding) for finding in FINDINGS[:-1]])
    assert f"mean {mean:.3f}" in texts
    assert "no positive films" in texts
    assert "a model on films, test" in texts


def test_auc_figure_puts_each_dot_in_its_findings_row(predictions: Predictions) -> None:
    axes = auc_figure(auc_per_finding(predictions), "title").axes[0]
    dots = next(line for line in axes.lines if line.get_label() == "this run")
    assert dots.get_ydata().tolist() == list(range(13))
    assert dots.get_xdata() == pytest.approx([_sklearn_auc(predictions, finding) for finding in FINDINGS[:-1]])


def test_all_of_each_whisker_is_inside_the_axes(predictions: Predictions) -> None:
    few = predictions.labels & (np.arange(200) < 10)[:, None]
    results = auc_per_finding(Predictions(**(vars(predictions) | {"labels": few})))
    axes = auc_figure(results, "title").axes[0]
    lows = [result.low for result in results.values() if not math.isnan(result.low)]
    assert axes.get_xlim()[0] <= min(lows)
    assert axes.get_xlim()[1] == 1.0


def test_literature_is_drawn_only_when_asked_and_says_that_splits_differ(predictions: Predictions) -> None:
    results = auc_per_finding(predictions)
    assert "CheXNet" not in _texts(auc_figure(results, "title"))
    figure = auc_figure(results, "title", anchors=True)
    _drawn(figure)
    texts = _texts(figure)
    assert all(source in texts for source in LITERATURE_AUCS)
    assert "random patient splits" in texts


def test_literature_is_left_out_for_findings_that_it_does_not_know() -> None:
    other = Predictions(("malignant",), ["a", "b"], ["1", "2"], ["test"] * 2, [[0], [1]], [[0.1], [0.9]])
    figure = auc_figure(auc_per_finding(other), "title", anchors=True)
    _drawn(figure)
    assert "CheXNet 2017" not in _texts(figure)


# The means that the three papers and their comparisons print.
@pytest.mark.parametrize(("source", "mean"), [("CheXNet 2017", 0.841), ("Yao 2017", 0.803), ("Wang 2017", 0.738)])
def test_literature_has_the_printed_mean(source: str, mean: float) -> None:
    assert tuple(LITERATURE_AUCS[source]) == FINDINGS
    assert np.mean(list(LITERATURE_AUCS[source].values())) == pytest.approx(mean, abs=0.0006)


def test_roc_figure_has_a_curve_and_an_auc_for_each_finding_with_both_classes(predictions: Predictions) -> None:
    figure = roc_figure(predictions, "title")
    _drawn(figure)
    panels = [panel for panel in figure.axes if panel.get_visible()]
    assert len(panels) == 14
    for panel, finding in zip(panels[:-1], FINDINGS[:-1], strict=True):
        expected = _sklearn_auc(predictions, finding)
        assert panel.get_title().startswith(finding.replace("_", " "))
        assert f"AUC {expected:.3f}" in panel.get_title()
        curve = next(line for line in panel.lines if line.get_label() == finding)
        assert np.trapezoid(curve.get_ydata(), curve.get_xdata()) == pytest.approx(expected, abs=1e-6)
    hernia = panels[-1]
    assert [line.get_label() for line in hernia.lines] == ["chance"]
    assert hernia.texts[0].get_text() == "no positive films"


@pytest.mark.parametrize("findings", [0, 1, 4, 6])
def test_any_number_of_findings_is_drawn(findings: int) -> None:
    generator = np.random.default_rng(0)
    labels, probabilities = generator.random((30, findings)) < 0.5, generator.random((30, findings))
    names = tuple(f"finding {index}" for index in range(findings))
    predictions = Predictions(names, [str(i) for i in range(30)], [""] * 30, ["test"] * 30, labels, probabilities)
    figure = roc_figure(predictions, "title")
    figure.savefig(BytesIO(), format="png")
    assert sum(panel.get_visible() for panel in figure.axes) == findings
    auc_figure(auc_per_finding(predictions), "title").savefig(BytesIO(), format="png")


def test_learning_curves_follow_the_history_and_leave_gaps() -> None:
    history = [
        {"train/loss": 0.5, "val/loss": 0.6, "val/auc/mean": 0.55, "optim/learning_rate": 1e-4},
        {"train/loss": 0.4, "optim/learning_rate": 5e-4},
        {"train/loss": 0.3, "val/loss": 0.4, "val/auc/mean": math.nan, "optim/learning_rate": 5e-4},
    ]
    figure = learning_curves_figure(history, "title")
    _drawn(figure)
    loss, area, rate = figure.axes
    curves = {line.get_label(): line for line in loss.lines}
    assert curves["training"].get_xdata().tolist() == [1, 2, 3]
    assert curves["training"].get_ydata().tolist() == [0.5, 0.4, 0.3]
    np.testing.assert_array_equal(curves["validation"].get_ydata(), [0.6, math.nan, 0.4])
    np.testing.assert_array_equal(area.lines[0].get_ydata(), [0.55, math.nan, math.nan])
    assert rate.lines[0].get_ydata().tolist() == [1e-4, 5e-4, 5e-4]


def test_an_empty_history_says_so() -> None:
    figure = learning_curves_figure([], "title")
    _drawn(figure)
    assert _texts(figure).count("nothing logged") == 3


def test_learning_rate_figure_draws_every_point_within_labelled_axes() -> None:
    figure = learning_rate_figure([0.0, 0.5, 2.8], [0.0, 3e-4, 1e-4], "title")
    _drawn(figure)
    (axes,) = figure.axes
    assert axes.lines[0].get_xdata().tolist() == [0.0, 0.5, 2.8]
    assert axes.lines[0].get_ydata().tolist() == [0.0, 3e-4, 1e-4]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Epochs of training", "Learning rate")
    assert axes.get_xlim() == (0, 3)
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > 3e-4


@pytest.mark.parametrize("rates", [[], [0.0, 0.0]])
def test_learning_rates_of_nothing_are_drawn(rates: list[float]) -> None:
    figure = learning_rate_figure([0.0, 1.0][: len(rates)], rates, "nothing yet")
    _drawn(figure)
    assert "nothing yet" in _texts(figure)
    assert list(figure.axes[0].lines[0].get_ydata()) == rates


def test_frequency_figure_shows_the_papers_table() -> None:
    figure = frequency_figure(RELEASED_COUNTS, RELEASED_FILMS, "ChestX-ray14")
    _drawn(figure)
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == list(RELEASED_COUNTS.values())
    texts = _texts(figure)
    assert "19,894 (17.7%)" in texts
    assert "227 (0.2%)" in texts
    assert "No Finding" in texts


def test_frequencies_of_no_films_are_drawn() -> None:
    figure = frequency_figure({"Mass": 0, "Hernia": 0}, 0, "nothing yet")
    _drawn(figure)
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0, 0]


def test_prevalence_figure_puts_each_split_in_the_findings_row() -> None:
    shares = {"train": {"Mass": 0.05, "Hernia": 0.002}, "test": {"Mass": 0.07, "Hernia": 0.0}}
    figure = prevalence_figure(shares, "ChestX-ray14")
    _drawn(figure)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["train"].get_xdata().tolist() == pytest.approx([5, 0.2])
    assert lines["test"].get_xdata().tolist() == pytest.approx([7, 0])
    assert lines["test"].get_ydata().tolist() == [0, 1]
    assert "5.0 / 7.0 %" in _texts(figure)


def test_co_occurrence_figure_gives_shares_of_the_rows_films() -> None:
    # 4 films of A, one also of B and one of B and C; 3 of B; none of D.
    labels = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]], bool)
    figure = co_occurrence_figure(labels, ["A", "B", "C", "D"], "made")
    _drawn(figure)
    (axes,) = figure.axes
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {
        (1, 0): "50", (2, 0): "25", (3, 0): "0", (4, 0): "50",
        (0, 1): "67", (2, 1): "33", (3, 1): "0", (4, 1): "33",
        (0, 2): "100", (1, 2): "100", (3, 2): "0", (4, 2): "0",
    }  # fmt: skip
    assert [label.get_text() for label in axes.get_yticklabels()] == ["A (4)", "B (3)", "C (1)", "D (0)"]
    assert axes.get_xticklabels()[-1].get_text() == "nothing else"


def test_a_name_with_dollars_is_not_a_formula() -> None:
    # Unbalanced braces in a formula make matplotlib raise.
    figure = frequency_figure({"$\\frac{$": 3, "b": 2}, 5, "data $\\frac{$ set")
    _drawn(figure)
    assert r"data \$\frac{\$ set" in _texts(figure)
