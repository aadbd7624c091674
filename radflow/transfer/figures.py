"""Speed of both halves of a comparison, as Figure 18 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from radflow.plots.arms import Curves
from radflow.plots.style import new_figure, styled, tidy


def throughput_figure(rates: Mapping[str, Sequence[float]], minutes: Curves, areas: Curves, title: str) -> Figure:
    """Images per second of each training, and validation AUC against the time that training had taken.

    Parameters
    ----------
    rates
        Median images per second of each seed.
    minutes, areas
        Time since the start of training at the end of each epoch, and the AUC then.
    title : str
    """
    figure = new_figure(title, 4.0, gap=0.08)
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    for row, (label, colour, marker) in enumerate(styled(rates)):
        values = rates[label]
        mean = float(np.mean(values))
        left.bar(row, mean, color=colour, alpha=0.25, width=0.6)
        spread = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else [0.0]
        left.plot(row + np.asarray(spread), values, marker, color=colour, markersize=6)
        left.annotate(f"{mean:.1f}", (row, max(values)), (0, 7), textcoords="offset points", ha="center", fontsize=10)
        right.plot(minutes[label].T, areas[label].T, color=colour, linewidth=0.7, alpha=0.5)
        mean_time, mean_area = np.nanmean(minutes[label], axis=0), np.nanmean(areas[label], axis=0)
        right.plot(mean_time, mean_area, color=colour, marker=marker, markersize=5, linewidth=2, label=label)
    left.set_xticks(range(len(rates)), list(rates))
    left.set_xlim(-0.6, len(rates) - 0.4)
    left.set_ylim(0, 1.18 * max(max(values) for values in rates.values()))
    left.set_ylabel("Images per second, training")
    right.set_xlim(left=0)
    right.set_xlabel("Minutes of training")
    right.set_ylabel("AUC, validation crops")
    right.legend(loc="lower right", frameon=False, fontsize=9)
    tidy(left)
    tidy(right)
    return figure
