"""How well findings are told apart, as pictures: AUC per finding, and ROC curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from radflow.evaluation.auc import FindingAuc, auc_per_finding, mean_auc
from radflow.evaluation.literature import LITERATURE_AUCS
from radflow.evaluation.predictions import Predictions
from radflow.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    PURPLE,
    WIDTH,
    in_words,
    legend_above,
    new_figure,
    new_rows,
    write_beside,
)

ANCHOR_CAPTION = (
    "Literature: random patient splits of 70/10/20, about .03 easier than the official test list; "
    "not comparable one to one."
)

_ANCHOR_MARKS = {"Wang 2017": ("s", PURPLE), "Yao 2017": ("^", GREEN), "CheXNet 2017": ("D", ORANGE)}


def auc_figure(results: Mapping[str, FindingAuc], title: str, anchors: bool = False) -> Figure:
    """AUC of each finding as a dot with its 95 % interval as whiskers, from the top in the findings' order.

    The numbers stand at the right; a finding without both classes keeps its row and says what is missing.

    Parameters
    ----------
    results : from `auc_per_finding`
    title : str
        What was evaluated on what, such as "densenet121 on ChestX-ray14, test".
    anchors : bool
        Mark the AUCs of `LITERATURE_AUCS` too, with a caption that their splits differ.
    """
    figure, axes = new_rows(list(results), title, height=1.7 + (0.3 if anchors else 0.0))
    _draw_intervals(axes, list(results.values()))
    axes.axvline(0.5, color=GREY, linewidth=1.2, zorder=1, label="chance")
    mean = mean_auc(results)
    if not math.isnan(mean):
        axes.axvline(mean, color=BLUE, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1, label=f"mean {mean:.3f}")
    if anchors:
        _draw_anchors(axes, list(results))
        figure.supxlabel(ANCHOR_CAPTION, fontsize=9, color=GREY)
    axes.set_xlim(*_auc_limits(results, anchors))
    axes.set_xlabel("Area under the ROC curve (95 % interval)")
    legend_above(axes, 6, columnspacing=1.2, handlelength=1.4, handletextpad=0.5)
    return figure


def roc_figure(predictions: Predictions, title: str) -> Figure:
    """Draw a small ROC curve for each finding, with its AUC and the number of positive films in its heading."""
    results = auc_per_finding(predictions)
    columns = min(max(len(results), 3), 5)
    rows = max(math.ceil(len(results) / columns), 1)
    figure = new_figure(title, 0.7 + rows * 1.12 * WIDTH / columns)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for index, (panel, (finding, result)) in enumerate(zip(panels.flat, results.items(), strict=False)):
        _draw_roc(panel, finding, result, *predictions.of_finding(index)[1:])
    for panel in panels.flat[len(results) :]:
        panel.set_visible(False)
    for panel in panels[-1]:
        panel.set_xlabel("1 - specificity", fontsize=9)
    for panel in panels[:, 0]:
        panel.set_ylabel("Sensitivity", fontsize=9)
    return figure


def _draw_intervals(axes: Axes, results: Sequence[FindingAuc]) -> None:
    """Dots and whiskers, and at the right of each row what they say in numbers."""
    rows = [row for row, result in enumerate(results) if not math.isnan(result.auc)]
    aucs = np.array([results[row].auc for row in rows])
    if rows:
        whiskers = [aucs - [results[row].low for row in rows], [results[row].high for row in rows] - aucs]
        axes.errorbar(aucs, rows, xerr=np.array(whiskers), fmt="none", ecolor=BLUE, capsize=3, zorder=3)
    axes.plot(aucs, rows, "o", color=BLUE, markersize=7, zorder=4, label="this run")
    for row, result in enumerate(results):
        write_beside(axes, _in_numbers(result), row)
    write_beside(axes, "AUC (95 % interval), positive films", None)


def _in_numbers(result: FindingAuc) -> str:
    if math.isnan(result.auc):
        return f"no {'positive' if result.positives == 0 else 'negative'} films"
    return f"{result.auc:.3f} ({result.low:.3f} to {result.high:.3f}), {result.positives:,}"


def _draw_anchors(axes: Axes, findings: Sequence[str]) -> None:
    for source, aucs in LITERATURE_AUCS.items():
        known = [(row, aucs[finding]) for row, finding in enumerate(findings) if finding in aucs]
        if known:
            mark, colour = _ANCHOR_MARKS[source]
            rows, values = zip(*known, strict=True)
            axes.plot(values, rows, mark, color=colour, markerfacecolor="none", markersize=6, label=source, zorder=2)


def _auc_limits(results: Mapping[str, FindingAuc], anchors: bool) -> tuple[float, float]:
    """Limits of the axis: from a tenth below the lowest whisker, or from just under chance, to 1."""
    lows = [result.low for result in results.values() if not math.isnan(result.low)]
    if anchors:
        lows += [auc for aucs in LITERATURE_AUCS.values() for auc in aucs.values()]
    return max(0.0, min([0.48, *(low - 0.02 for low in lows)])), 1.0


def _draw_roc(panel: Axes, finding: str, result: FindingAuc, labels: np.ndarray, scores: np.ndarray) -> None:
    panel.plot([0, 1], [0, 1], color=PALE, linewidth=1, label="chance")
    heading = in_words(finding)
    if math.isnan(result.auc):
        panel.text(0.5, 0.4, _in_numbers(result), ha="center", fontsize=9, color=GREY)
    else:
        false_positive_rate, true_positive_rate, _ = roc_curve(labels, scores)
        panel.plot(false_positive_rate, true_positive_rate, color=BLUE, linewidth=1.6, label=finding)
        panel.fill_between(false_positive_rate, true_positive_rate, color=BLUE, alpha=0.10, linewidth=0)
        heading += f"\nAUC {result.auc:.3f}, {result.positives:,} positive"
    panel.set_title(heading, fontsize=9.5)
    panel.set_aspect("equal")
    panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
