"""Ways of training beside each other, each repeated with several seeds, as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator
from numpy.typing import NDArray

from radflow.plots.style import GREY, in_words, legend_above, new_axes, new_figure, styled, tidy

Curves = Mapping[str, NDArray[np.floating]]
"""Curves by label of an arm: [seeds, epochs], NaN where a training had ended."""


@dataclass(frozen=True)
class Panel:
    """One quantity of every arm."""

    quantity: str
    """Name and unit, for the axis."""
    values: Mapping[str, Sequence[float]]
    """Values of the seeds, by arm."""
    is_logarithmic: bool = False
    level: float | None = None
    """What is drawn as a line across, such as an ideal."""
    is_ordered: bool = False
    """Whether the arms are steps of one quantity, so that a line may join their means."""


def epochs_figure(curves: Curves, quantity: str, title: str, goal: float | None = None) -> Figure:
    """A quantity by epoch: mean over seeds, a band from the lowest to the highest, and each seed as a thin line.

    Parameters
    ----------
    curves
        Of all arms.
    quantity : str
        What is drawn, for the axis.
    title : str
    goal : float, optional
        Drawn as a level.
    """
    figure, axes = new_axes(title, 4.4)
    for label, colour, mark in styled(curves):
        values = curves[label]
        epochs = np.arange(1, values.shape[1] + 1)
        seeds = f"mean of {len(values)} seeds" if len(values) > 1 else "one seed"
        axes.fill_between(epochs, np.nanmin(values, axis=0), np.nanmax(values, axis=0), color=colour, alpha=0.15, lw=0)
        axes.plot(epochs, values.T, color=colour, linewidth=0.7, alpha=0.5)
        mean = np.nanmean(values, axis=0)
        axes.plot(epochs, mean, color=colour, marker=mark, markersize=5, linewidth=2, label=f"{label}, {seeds}")
    if goal is not None:
        axes.axhline(goal, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1, label=f"target {goal:.3f}")
    axes.set_xlabel("Epoch")
    axes.set_ylabel(quantity)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    legend_above(axes, 3)
    return figure


def panels_figure(panels: Sequence[Panel], title: str) -> Figure:
    """Quantities beside each other: each seed as a mark, the mean over seeds as a bar, of ordered arms joined."""
    figure = new_figure(title, 4.4, gap=0.06)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        places = range(len(panel.values))
        means = [np.mean(values) for values in panel.values.values()]
        axes.plot(places, means, color=GREY, marker="_", markersize=22, linewidth=1.2 * panel.is_ordered, zorder=1)
        for place, (label, colour, mark) in enumerate(styled(panel.values)):
            values = panel.values[label]
            axes.plot(place + _spread(len(values)), values, mark, color=colour, markersize=6, alpha=0.85)
        if panel.level is not None:
            axes.axhline(panel.level, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        _name_arms(axes, list(panel.values))
        axes.set_ylabel(panel.quantity)
        if panel.is_logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(LogFormatter())
            axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
        tidy(axes)
    return figure


def lines_figure(
    panels: Mapping[str, Mapping[str, Mapping[float, Sequence[float]]]], quantity: str, title: str
) -> Figure:
    """Panels of what changes with a quantity, a line for each way of training: its means, with a mark for each seed.

    Parameters
    ----------
    panels
        Values of the seeds, by what they are, then by way of training, then by the quantity.
    quantity
        What goes along the axis, in doublings.
    title : str
    """
    figure = new_figure(title, 4.4, gap=0.06)
    for axes, (name, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for label, colour, mark in styled(lines):
            line = {place: values for place, values in sorted(lines[label].items()) if len(values)}
            means = [np.mean(values) for values in line.values()]
            axes.plot(list(line), means, color=colour, linewidth=2)
            places = [place for place, values in line.items() for _ in values]
            axes.plot(places, np.concatenate([*line.values(), []]), mark, color=colour, markersize=6, label=label)
        known = sorted({place for line in lines.values() for place in line})
        axes.set_xscale("log", base=2)
        axes.set_xticks(known, [f"{place:,}" for place in known])
        axes.set_xlabel(quantity)
        axes.set_ylabel(name)
        tidy(axes)
        legend_above(axes, 2)
    return figure


def boxes_figure(groups: Mapping[str, Mapping[str, Sequence[float]]], quantity: str, title: str) -> Figure:
    """A box of each arm's values, from quartile to quartile with the median, a panel for each group of arms."""
    figure = new_figure(title, 4.4, gap=0.06)
    panels = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
    for axes, (group, arms) in zip(panels, groups.items(), strict=True):
        boxes = axes.boxplot(list(arms.values()), widths=0.5, patch_artist=True, medianprops={"color": GREY})
        for box, (_, colour, _) in zip(boxes["boxes"], styled(arms), strict=True):
            box.set(facecolor=colour, alpha=0.35)
        for place, (label, colour, mark) in enumerate(styled(arms), 1):
            axes.plot(place + _spread(len(arms[label])), arms[label], mark, color=colour, markersize=4)
        _name_arms(axes, list(arms), first=1)
        axes.set_title(in_words(group), loc="left", fontsize=10)
        tidy(axes)
    panels[0].set_ylabel(quantity)
    return figure


def _spread(count: int) -> NDArray[np.float64]:
    """How far the marks of seeds stand from their arm's place."""
    return np.linspace(-0.12, 0.12, count) if count > 1 else np.zeros(count)


def _name_arms(axes: Axes, arms: Sequence[str], first: int = 0) -> None:
    tilted = sum(map(len, arms)) > 40
    axes.set_xticks(
        range(first, first + len(arms)),
        [in_words(arm) for arm in arms],
        rotation=30 if tilted else 0,
        ha="right" if tilted else "center",
        fontsize=9,
    )
    axes.set_xlim(first - 0.5, first + len(arms) - 0.5)
