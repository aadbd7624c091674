"""Pictures of a run, 1000 pixels wide: AUC per finding, ROC curves, learning curves and rate, findings of a data set.

Every function returns a `matplotlib.figure.Figure` that belongs to nobody else: no pyplot, no global state. Colours are
those of Okabe and Ito, which readers with any colour vision tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from radflow.evaluation.auc import FindingAuc, auc_per_finding, mean_auc
from radflow.evaluation.predictions import Predictions

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY, PALE = "#595959", "#D9D9D9"
_WIDTH, _DPI = 10.0, 100

LITERATURE_AUCS: dict[str, dict[str, float]] = {
    "Wang 2017": {
        "Atelectasis": 0.716, "Cardiomegaly": 0.807, "Effusion": 0.784, "Infiltration": 0.609, "Mass": 0.706,
        "Nodule": 0.671, "Pneumonia": 0.633, "Pneumothorax": 0.806, "Consolidation": 0.708, "Edema": 0.835,
        "Emphysema": 0.815, "Fibrosis": 0.769, "Pleural_Thickening": 0.708, "Hernia": 0.767,
    },
    "Yao 2017": {
        "Atelectasis": 0.772, "Cardiomegaly": 0.904, "Effusion": 0.859, "Infiltration": 0.695, "Mass": 0.792,
        "Nodule": 0.717, "Pneumonia": 0.713, "Pneumothorax": 0.841, "Consolidation": 0.788, "Edema": 0.882,
        "Emphysema": 0.829, "Fibrosis": 0.767, "Pleural_Thickening": 0.765, "Hernia": 0.914,
    },
    "CheXNet 2017": {
        "Atelectasis": 0.8094, "Cardiomegaly": 0.9248, "Effusion": 0.8638, "Infiltration": 0.7345, "Mass": 0.8676,
        "Nodule": 0.7802, "Pneumonia": 0.7680, "Pneumothorax": 0.8887, "Consolidation": 0.7901, "Edema": 0.8878,
        "Emphysema": 0.9371, "Fibrosis": 0.8047, "Pleural_Thickening": 0.8062, "Hernia": 0.9164,
    },
}  # fmt: skip
"""AUCs of ChestX-ray14 as Table 1 of CheXNet (arXiv:1711.05225) prints them; random patient splits of 70/10/20."""

ANCHOR_CAPTION = (
    "Literature: random patient splits of 70/10/20, about .03 easier than the official test list; "
    "not comparable one to one."
)

_SPLIT_MARKS = (("o", BLUE), ("s", ORANGE), ("^", GREEN))
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
    figure, axes = _bar_axes(list(results), title, height=1.7 + (0.3 if anchors else 0.0))
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
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=6,
        frameon=False,
        fontsize=9,
        borderaxespad=0.2,
        columnspacing=1.2,
        handlelength=1.4,
        handletextpad=0.5,
    )
    return figure


def roc_figure(predictions: Predictions, title: str) -> Figure:
    """Draw a small ROC curve for each finding, with its AUC and the number of positive films in its heading."""
    results = auc_per_finding(predictions)
    columns = min(max(len(results), 3), 5)
    rows = max(math.ceil(len(results) / columns), 1)
    figure = Figure(figsize=(_WIDTH, 0.7 + rows * 1.12 * _WIDTH / columns), dpi=_DPI, layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for index, (panel, (finding, result)) in enumerate(zip(panels.flat, results.items(), strict=False)):
        _draw_roc(panel, finding, result, predictions.labels[:, index], predictions.probabilities[:, index])
    for panel in panels.flat[len(results) :]:
        panel.set_visible(False)
    for panel in panels[-1]:
        panel.set_xlabel("1 - specificity", fontsize=9)
    for panel in panels[:, 0]:
        panel.set_ylabel("Sensitivity", fontsize=9)
    _set_title(figure, title)
    return figure


def learning_curves_figure(history: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Loss, validation AUC and learning rate by epoch.

    Parameters
    ----------
    history : one mapping of metric keys per epoch, the first being epoch 1
        Drawn are train/loss, val/loss, val/auc/mean and optim/learning_rate; an epoch without a key leaves a gap.
    title : str
    """
    figure = Figure(figsize=(_WIDTH, 3.6), dpi=_DPI, layout=ConstrainedLayoutEngine(wspace=0.07))
    loss, area, rate = figure.subplots(1, 3)
    _draw_by_epoch(loss, history, {"train/loss": ("training", BLUE, "o"), "val/loss": ("validation", ORANGE, "s")})
    _draw_by_epoch(area, history, {"val/auc/mean": ("validation", ORANGE, "s")})
    _draw_by_epoch(rate, history, {"optim/learning_rate": ("learning rate", GREEN, "o")})
    loss.set_title("Loss (binary cross-entropy)", fontsize=11)
    area.set_title("Mean AUC, validation", fontsize=11)
    rate.set_title("Learning rate", fontsize=11)
    if rate.lines:
        rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
        rate.set_ylim(bottom=0)
    if loss.lines:
        loss.legend(frameon=False, fontsize=9)
    _set_title(figure, title)
    return figure


def learning_rate_figure(epochs: Sequence[float], rates: Sequence[float], title: str) -> Figure:
    """Learning rate over training, warm-up and decay, finer than the learning curves' one point an epoch.

    Parameters
    ----------
    epochs : points of training, fractions included; 0 is its start
    rates : learning rate at each of them
    title : str
        What schedule it is, such as "densenet121 on ChestX-ray14, schedule cosine".
    """
    figure = Figure(figsize=(_WIDTH, 3.6), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.plot(epochs, rates, color=GREEN, linewidth=1.6)
    axes.set_xlim(0, math.ceil(max([*epochs, 1.0])))
    axes.set_ylim(0, 1.05 * max(rates, default=0.0) or 1.0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("Epochs of training")
    axes.set_ylabel("Learning rate")
    axes.grid(color=PALE, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    _set_title(figure, title)
    return figure


def frequency_figure(counts: Mapping[str, int], films: int, title: str, unit: str = "films") -> Figure:
    """How many films carry each finding, as bars with count and share: the paper's Table I as a picture.

    Parameters
    ----------
    counts : finding -> films, drawn from the top in this order; may include "No Finding"
    films : int
        All films, of which the shares are taken. A film may carry several findings: shares need not add up to 100 %.
    title : str
    unit : str
        What an image is: "films", or "crops" of them.
    """
    figure, axes = _bar_axes(list(counts), title, height=1.3)
    values = list(counts.values())
    bars = axes.barh(np.arange(len(values)), values, color=BLUE, height=0.7)
    shares = [f" {value:,} ({value / films:.1%})" if films else f" {value:,}" for value in values]
    axes.bar_label(bars, shares, fontsize=9, color=GREY)
    axes.set_xlim(0, 1.18 * max([*values, 1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel(f"{unit.capitalize()} with the finding, of {films:,}")
    return figure


def prevalence_figure(prevalences: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """How large a share of each split's films carries each finding: whether the splits resemble each other.

    Parameters
    ----------
    prevalences : split -> finding -> share of its films, 0 to 1; the findings are drawn from the top in their order
    title : str
    """
    findings = list(next(iter(prevalences.values())))
    figure, axes = _bar_axes(findings, title, height=1.7)
    rows = np.arange(len(findings))
    for number, (split, shares) in enumerate(prevalences.items()):
        mark, colour = _SPLIT_MARKS[number % len(_SPLIT_MARKS)]
        percent = [100 * shares[finding] for finding in findings]
        axes.plot(
            percent, rows, mark, color=colour, markerfacecolor="none", markeredgewidth=1.6, clip_on=False, label=split
        )
    for row, finding in enumerate(findings):
        shares_in_order = " / ".join(f"{100 * shares[finding]:.1f}" for shares in prevalences.values())
        _write_beside(axes, f"{shares_in_order} %", (1.02, row), ("axes fraction", "data"))
    _write_beside(axes, " / ".join(prevalences), (1.02, 1.02), ("axes fraction", "axes fraction"))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter("{x:g} %")
    axes.set_xlabel("Films with the finding, of the films of the split")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=9, borderaxespad=0.2)
    return figure


def co_occurrence_figure(labels: np.ndarray, findings: Sequence[str], title: str) -> Figure:
    """Which findings come together: of the films with the row's finding, the share with the column's too.

    Parameters
    ----------
    labels : bool [films, findings]
    findings : at least one
    title : str
    """
    together = labels.T.astype(np.int64) @ labels.astype(np.int64)
    counts = np.diag(together)
    alone = labels[labels.sum(axis=1) == 1].sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = 100 * np.column_stack([together, alone]) / counts[:, np.newaxis]
    np.fill_diagonal(shares, np.nan)
    figure = Figure(figsize=(_WIDTH, 2.0 + 0.36 * len(findings)), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.ma.masked_invalid(shares), cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        if not np.isnan(share):
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=9,
                      color="white" if share > 60 else "black")  # fmt: skip
    columns = [*map(_shown, findings), "nothing else"]
    axes.set_xticks(np.arange(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    rows = [f"{_shown(finding)} ({count:,})" for finding, count in zip(findings, counts, strict=True)]
    axes.set_yticks(np.arange(len(findings)), rows)
    axes.axvline(len(findings) - 0.5, color="white", linewidth=4)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("Of the films with the row's finding, per cent that show the column's too")
    _set_title(figure, title)
    return figure


def _bar_axes(findings: Sequence[str], title: str, height: float) -> tuple[Figure, Axes]:
    """Return axes with a row per finding, the first at the top; `height` in inches is what stands around the rows."""
    rows = max(len(findings), 1)
    figure = Figure(figsize=(_WIDTH, height + 0.34 * rows), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_yticks(np.arange(len(findings)), [_shown(finding) for finding in findings])
    axes.set_ylim(rows - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    _set_title(figure, title)
    return figure, axes


def _set_title(figure: Figure, title: str) -> None:
    figure.suptitle(_shown(title), x=0.01, ha="left", fontweight="bold", fontsize=12)


def _shown(text: str) -> str:
    """Write a name as a reader does; a dollar sign is a dollar sign, not the start of a formula."""
    return text.replace("_", " ").replace("$", r"\$")


def _draw_intervals(axes: Axes, results: Sequence[FindingAuc]) -> None:
    """Dots and whiskers, and at the right of each row what they say in numbers."""
    rows = [row for row, result in enumerate(results) if not math.isnan(result.auc)]
    areas = np.array([results[row].auc for row in rows])
    if rows:
        whiskers = [areas - [results[row].low for row in rows], [results[row].high for row in rows] - areas]
        axes.errorbar(areas, rows, xerr=whiskers, fmt="none", ecolor=BLUE, capsize=3, zorder=3)
    axes.plot(areas, rows, "o", color=BLUE, markersize=7, zorder=4, label="this run")
    for row, result in enumerate(results):
        _write_beside(axes, _in_numbers(result), (1.02, row), ("axes fraction", "data"))
    _write_beside(axes, "AUC (95 % interval), positive films", (1.02, 1.02), ("axes fraction", "axes fraction"))


def _write_beside(axes: Axes, text: str, position: tuple[float, float], coordinates: tuple[str, str]) -> None:
    axes.annotate(text, position, xycoords=coordinates, va="center", fontsize=9, color=GREY)


def _in_numbers(result: FindingAuc) -> str:
    if math.isnan(result.auc):
        return f"no {'positive' if result.positives == 0 else 'negative'} films"
    return f"{result.auc:.3f} ({result.low:.3f} to {result.high:.3f}), {result.positives:,}"


def _draw_anchors(axes: Axes, findings: Sequence[str]) -> None:
    for source, areas in LITERATURE_AUCS.items():
        known = [(row, areas[finding]) for row, finding in enumerate(findings) if finding in areas]
        if known:
            mark, colour = _ANCHOR_MARKS[source]
            rows, values = zip(*known, strict=True)
            axes.plot(values, rows, mark, color=colour, markerfacecolor="none", markersize=6, label=source, zorder=2)


def _auc_limits(results: Mapping[str, FindingAuc], anchors: bool) -> tuple[float, float]:
    """From a tenth below the lowest whisker, or from just under chance, to 1."""
    lows = [result.low for result in results.values() if not math.isnan(result.low)]
    if anchors:
        lows += [area for areas in LITERATURE_AUCS.values() for area in areas.values()]
    return max(0.0, min([0.48, *(low - 0.02 for low in lows)])), 1.0


def _draw_roc(panel: Axes, finding: str, result: FindingAuc, labels: np.ndarray, scores: np.ndarray) -> None:
    panel.plot([0, 1], [0, 1], color=PALE, linewidth=1, label="chance")
    heading = _shown(finding)
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


def _draw_by_epoch(
    panel: Axes, history: Sequence[Mapping[str, float]], curves: Mapping[str, tuple[str, str, str]]
) -> None:
    """Draw the metric keys of `curves` (key -> label, colour, marker) over the epochs 1, 2, ..."""
    epochs = np.arange(1, len(history) + 1)
    for key, (label, colour, marker) in curves.items():
        values = np.array([epoch.get(key, math.nan) for epoch in history], dtype=float)
        if np.isfinite(values).any():
            panel.plot(epochs, values, color=colour, marker=marker, markersize=4, linewidth=1.6, label=label)
    if not panel.lines:
        panel.text(0.5, 0.5, "nothing logged", transform=panel.transAxes, ha="center", va="center", color=GREY)
        panel.set_yticks([])
    panel.set_xlim(0.5, max(len(history), 1) + 0.5)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panel.set_xlabel("Epoch")
    panel.grid(color=PALE, linewidth=0.8)
    panel.spines[["top", "right"]].set_visible(False)
