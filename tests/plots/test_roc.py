from __future__ import annotations

import math
from io import BytesIO

import numpy as np
import pytest
from drawn_figures import draw, texts_of
from sklearn.metrics import roc_auc_score

from radflow.data.readers.chestxray14 import FINDINGS
from radflow.evaluation.auc import auc_per_finding
from radflow.evaluation.literature import LITERATURE_AUCS
from radflow.evaluation.predictions import Predictions
from radflow.plots.roc import auc_figure, roc_figure


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    """200 films of 100 patients; no film shows a hernia."""
    generator = np.random.default_rng(2)
    labels = generator.random((200, 14)) < 0.3
    labels[:, FINDINGS.index("Hernia")] = False
    probabilities = 1 / (1 + np.exp(-generator.normal(size=(200, 14)) - labels))
    ids = [f"{film:08d}_000.png" for film in range(200)]
    return Predictions(FINDINGS, ids, [f"{film // 2}" for film in range(200)], ["test"] * 200, labels, probabilities)


def _sklearn_auc(predictions: Predictions, finding: str) -> float:
    index = predictions.findings.index(finding)
    return float(roc_auc_score(predictions.labels[:, index], predictions.probabilities[:, index]))


def test_auc_figure_shows_each_finding_in_order_with_its_numbers(predictions: Predictions) -> None:
    figure = auc_figure(auc_per_finding(predictions), "a model on films, test")
    draw(figure)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [name.replace("_", " ") for name in FINDINGS]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first finding is at the top
    texts = texts_of(figure)
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
    assert "CheXNet" not in texts_of(auc_figure(results, "title"))
    figure = auc_figure(results, "title", anchors=True)
    draw(figure)
    texts = texts_of(figure)
    assert all(source in texts for source in LITERATURE_AUCS)
    assert "random patient splits" in texts


def test_literature_is_left_out_for_findings_that_it_does_not_know() -> None:
    other = Predictions(("malignant",), ["a", "b"], ["1", "2"], ["test"] * 2, [[0], [1]], [[0.1], [0.9]])
    figure = auc_figure(auc_per_finding(other), "title", anchors=True)
    draw(figure)
    assert "CheXNet 2017" not in texts_of(figure)


# The means that the three papers and their comparisons print.
@pytest.mark.parametrize(("source", "mean"), [("CheXNet 2017", 0.841), ("Yao 2017", 0.803), ("Wang 2017", 0.738)])
def test_literature_has_the_printed_mean(source: str, mean: float) -> None:
    assert tuple(LITERATURE_AUCS[source]) == FINDINGS
    assert np.mean(list(LITERATURE_AUCS[source].values())) == pytest.approx(mean, abs=0.0006)


def test_roc_figure_has_a_curve_and_an_auc_for_each_finding_with_both_classes(predictions: Predictions) -> None:
    figure = roc_figure(predictions, "title")
    draw(figure)
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
def test_any_number_of_findings_isdraw(findings: int) -> None:
    generator = np.random.default_rng(0)
    labels, probabilities = generator.random((30, findings)) < 0.5, generator.random((30, findings))
    names = tuple(f"finding {index}" for index in range(findings))
    predictions = Predictions(names, [str(i) for i in range(30)], [""] * 30, ["test"] * 30, labels, probabilities)
    figure = roc_figure(predictions, "title")
    figure.savefig(BytesIO(), format="png")
    assert sum(panel.get_visible() for panel in figure.axes) == findings
    auc_figure(auc_per_finding(predictions), "title").savefig(BytesIO(), format="png")
