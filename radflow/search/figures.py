"""Pictures of a search: history, importances, parallel coordinates, slices.

Optuna's own parallel coordinates leave out every trial that lacks a conditional parameter, so that a search over
optimisers would show none; here such a line passes below the axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from radflow.plots.style import BLUE, GREY, ORANGE, in_words, legend_above, new_axes, new_figure, tidy

_UNUSED = -0.14
"""Height of a line where its trial has no value for the axis, whose own range is 0 to 1."""
_FEW = 4
"""Up to as many different whole numbers are drawn as names are."""
_LETTERS = 20
"""Labels that are longer together do not fit below a panel side by side."""
_WIDE = 10.0
"""Ratio of largest to smallest value from which a positive parameter is drawn on a logarithmic axis."""


@dataclass(frozen=True)
class DrawnTrial:
    """What the pictures show of a trial."""

    number: int
    state: str
    """complete, pruned or failed."""
    score: float
    """Score of the best epoch; NaN where no epoch was finished."""
    params: Mapping[str, Any]


def history_figure(trials: Sequence[DrawnTrial], title: str) -> Figure:
    """Score of each trial by number, and the best complete one so far; failed trials lie on the lower edge."""
    figure, axes = new_axes(title, 4.2)
    for state, style in _STATE_STYLES.items():
        chosen = [trial for trial in trials if trial.state == state and math.isfinite(trial.score)]
        if chosen:
            axes.scatter([trial.number for trial in chosen], [trial.score for trial in chosen], label=state, **style)
    without = [trial.number for trial in trials if not math.isfinite(trial.score)]
    if without:
        edge = axes.get_xaxis_transform()
        axes.scatter(without, [0.02] * len(without), transform=edge, clip_on=False, label="failed, no epoch", **_FAILED)
    complete = [trial for trial in trials if trial.state == "complete"]
    if complete:
        best = np.maximum.accumulate([trial.score for trial in complete])
        axes.step(
            [trial.number for trial in complete], best, where="post", color=BLUE, linewidth=1.2, label="best so far"
        )
    axes.set_xlabel("Trial")
    axes.set_ylabel("Mean AUC of the best epoch, validation")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(axes, 5)
    return figure


def importances_figure(importances: Mapping[str, float], title: str) -> Figure:
    """Share of each parameter in the differences of score between complete trials (PED-ANOVA), largest at the top."""
    names = sorted(importances, key=lambda name: -importances[name])
    figure, axes = new_axes(title, 1.3 + 0.34 * len(names))
    axes.barh(names, [importances[name] for name in names], color=BLUE, height=0.6)
    for row, name in enumerate(names):
        axes.annotate(
            f"{importances[name]:.2f}", (importances[name], row), (4, 0), textcoords="offset points", va="center"
        )
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, max(importances.values()) * 1.1)
    axes.set_xlabel("Importance")
    return figure


def parallel_figure(trials: Sequence[DrawnTrial], title: str) -> Figure:
    """One line a trial through its parameters, coloured by score; below the axes of parameters that it has not."""
    shown = sorted((trial for trial in trials if math.isfinite(trial.score)), key=lambda trial: trial.score)
    values = {name: [trial.params[name] for trial in shown if name in trial.params] for name in _names(shown)}
    scales = {name: _Scale(each) for name, each in values.items() if len(set(each)) > 1}
    figure, axes = new_axes(title, 4.6)
    colour_of, scores = mpl.colormaps["viridis"], _score_range(shown)
    for trial in shown:
        heights = [
            scale.place(trial.params[name]) if name in trial.params else _UNUSED for name, scale in scales.items()
        ]
        axes.plot(range(len(scales)), heights, color=colour_of(scores(trial.score)), linewidth=1.6, alpha=0.85)
    for column, scale in enumerate(scales.values()):
        axes.plot([column, column], [0, 1], color=GREY, linewidth=1.0, zorder=5)
        for height, label in scale.ticks(5):
            axes.text(column + 0.04, height, label, va="center", fontsize=8, zorder=6, bbox=_LABEL_BOX)
    if any(name not in trial.params for trial in shown for name in scales):
        axes.annotate(
            "not used", (-0.05, _UNUSED), ha="right", va="center", fontsize=8, color=GREY, annotation_clip=False
        )
    axes.set_xticks(range(len(scales)), [in_words(name) for name in scales])
    axes.set_yticks([])
    axes.set_xlim(-0.05, len(scales) - 0.55)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="x", length=0)
    figure.colorbar(ScalarMappable(scores, colour_of), ax=axes, label="Mean AUC, validation", pad=0.01, aspect=30)
    return figure


def slice_figure(trials: Sequence[DrawnTrial], title: str) -> Figure:
    """Score against each parameter, a panel each; pruned trials are hollow."""
    shown = [trial for trial in trials if math.isfinite(trial.score)]
    names = _names(shown)
    columns = 4
    rows = max(math.ceil(len(names) / columns), 1)
    figure = new_figure(title, 0.7 + 2.1 * rows)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for panel, name in zip(panels.flat, names, strict=False):
        _draw_slice(panel, name, [trial for trial in shown if name in trial.params])
    for panel in panels.flat[len(names) :]:
        panel.set_visible(False)
    for panel in panels[:, 0]:
        panel.set_ylabel("Mean AUC", fontsize=9)
    return figure


_LABEL_BOX = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
_FAILED: dict[str, Any] = {"marker": "x", "color": ORANGE, "s": 36, "zorder": 3}
_STATE_STYLES: dict[str, dict[str, Any]] = {
    "complete": {"color": BLUE, "s": 30, "zorder": 3},
    "pruned": {"facecolors": "white", "edgecolors": BLUE, "s": 30, "zorder": 3},
    "failed": _FAILED,
}


class _Scale:
    """Places values of one parameter between 0 and 1: numbers by size, or by logarithm where they differ much.

    Names, and a few whole numbers, have a place each.
    """

    def __init__(self, values: Sequence[Any]) -> None:
        different = sorted(set(values), key=_order)
        by_name = any(isinstance(value, str) for value in values)
        few = len(different) <= _FEW and all(isinstance(value, int) for value in values)
        self._names = different if by_name or few or len(different) == 1 else []
        if not self._names:
            self._is_log = different[0] > 0 and different[-1] >= _WIDE * different[0]
            self._low, self._high = self._measure(different[0]), self._measure(different[-1])

    def place(self, value: Any) -> float:
        if self._names:
            return (self._names.index(value) + 0.5) / len(self._names)
        return (self._measure(value) - self._low) / (self._high - self._low)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """Places and labels: of every name, or of `count` numbers."""
        if self._names:
            return [(self.place(name), name if isinstance(name, str) else f"{name:.3g}") for name in self._names]
        spread = np.linspace(self._low, self._high, count)
        labels = (f"{10**value if self._is_log else value:.2g}" for value in spread)
        return list(zip(np.linspace(0, 1, count), labels, strict=True))

    def _measure(self, value: float) -> float:
        return math.log10(value) if self._is_log else value


def _draw_slice(panel: Axes, name: str, trials: Sequence[DrawnTrial]) -> None:
    scale = _Scale([trial.params[name] for trial in trials])
    for state, style in _STATE_STYLES.items():
        chosen = [trial for trial in trials if trial.state == state]
        places = [scale.place(trial.params[name]) for trial in chosen]
        panel.scatter(places, [trial.score for trial in chosen], **style)
    ticks = scale.ticks(3)
    is_long = sum(len(label) for _, label in ticks) > _LETTERS
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right"} if is_long else {}
    panel.set_xticks([place for place, _ in ticks], [label for _, label in ticks], fontsize=8, **slanted)
    panel.set_xlim(-0.08, 1.08)
    panel.set_title(in_words(name), fontsize=9)
    panel.tick_params(axis="y", labelsize=8)
    tidy(panel)


def _names(trials: Sequence[DrawnTrial]) -> list[str]:
    """The parameters of any trial, in the order of their first appearance."""
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def _order(value: Any) -> tuple[bool, Any]:
    """Numbers by size, then names by alphabet."""
    return (isinstance(value, str), value)


def _score_range(trials: Sequence[DrawnTrial]) -> Normalize:
    scores = [trial.score for trial in trials] or [0.0, 1.0]
    return Normalize(min(scores), max(scores))
