"""Several runs side by side, as pictures: AUC by finding, and loss by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from radflow.evaluation.auc import FindingAuc
from radflow.plots.style import legend_above, new_axes, new_rows, styled


def auc_by_run_figure(results: Mapping[str, Mapping[str, FindingAuc]], title: str) -> Figure:
    """AUC of each finding with its 95 % interval, a mark for each run; `results` are by run and finding."""
    findings = list(next(iter(results.values())))
    figure, axes = new_rows(findings, title, height=1.9, row_height=max(0.34, 0.12 * len(results)))
    offsets = np.linspace(-0.3, 0.3, len(results)) if len(results) > 1 else [0.0]
    for (run, colour, mark), offset in zip(styled(results), offsets, strict=True):
        aucs = results[run].values()
        known = [(row + offset, each) for row, each in enumerate(aucs) if not math.isnan(each.auc)]
        for row, each in known:
            axes.plot((each.low, each.high), (row, row), color=colour, linewidth=1.2)
        axes.plot([each.auc for _, each in known], [row for row, _ in known], mark, color=colour, label=run)
    axes.set_xlabel("Area under the ROC curve (95 % interval)")
    legend_above(axes, 3)
    return figure


def loss_by_epoch_figure(losses: Mapping[str, Sequence[tuple[int, float]]], title: str) -> Figure:
    """Validation loss by epoch, a line for each run."""
    figure, axes = new_axes(title, 4.2)
    for run, colour, mark in styled(losses):
        if losses[run]:
            epochs, values = zip(*losses[run], strict=True)
            axes.plot(epochs, values, color=colour, marker=mark, markersize=4, label=run)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("Epoch")
    axes.set_ylabel("Validation loss (binary cross-entropy)")
    if axes.lines:
        legend_above(axes, 3)
    return figure
