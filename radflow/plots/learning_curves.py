"""A training by epoch, as pictures: loss, validation AUC, and learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from radflow.plots.style import BLUE, GREEN, GREY, ORANGE, new_axes, new_figure, tidy


def learning_curves_figure(history: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Loss, validation AUC and learning rate by epoch.

    Parameters
    ----------
    history : one mapping of metric keys per epoch, the first being epoch 1
        Drawn are train/loss, val/loss, val/auc/mean and optim/learning_rate; an epoch without a key leaves a gap.
    title : str
    """
    figure = new_figure(title, 3.6, gap=0.07)
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
    figure, axes = new_axes(title, 3.6)
    axes.plot(epochs, rates, color=GREEN, linewidth=1.6)
    axes.set_xlim(0, math.ceil(max([*epochs, 1.0])))
    axes.set_ylim(0, 1.05 * max(rates, default=0.0) or 1.0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("Epochs of training")
    axes.set_ylabel("Learning rate")
    return figure


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
    tidy(panel)
