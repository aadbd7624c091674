"""How a model does in parts of the films, as a picture and as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from radflow.evaluation.estimates import Estimate
from radflow.evaluation.subgroups import Subgroup
from radflow.plots.style import BLUE, GREY, ORANGE, in_words, new_figure, tidy
from radflow.plots.tables import terminal_table

SUBGROUP_HEADINGS = ("Subgroup", "Films (findings)", "AUC", "against the rest", "Sensitivity", "Probability - share")


def subgroups_table(subgroups: Sequence[Subgroup], title: str) -> Table:
    """Lay out `subgroup_rows` for the terminal."""
    return terminal_table(f"{title}: subgroups", SUBGROUP_HEADINGS, subgroup_rows(subgroups), align="llrrrr")


def subgroup_rows(subgroups: Sequence[Subgroup]) -> list[tuple[str, ...]]:
    """A row a subgroup: its AUC, the difference from the rest, sensitivity and calibration, each with its interval."""
    return [
        (
            f"{each.column}: {each.value}",
            f"{each.films:,} ({each.findings})",
            str(each.auc),
            signed(each.auc_difference),
            str(each.sensitivity),
            signed(each.calibration),
        )
        for each in subgroups
    ]


def signed(estimate: Estimate) -> str:
    """A difference with its interval, with its sign."""
    return f"{estimate.value:+.3f} ({estimate.low:+.3f} to {estimate.high:+.3f})" if estimate.is_known else "-"


def subgroup_figure(subgroups: Sequence[Subgroup], title: str) -> Figure:
    """Mean AUC, sensitivity and calibration of each subgroup with intervals; orange where it differs from the rest."""
    figure = new_figure(f"{title}: subgroups", 1.3 + 0.3 * len(subgroups), gap=0.06)
    panels = figure.subplots(1, 3, sharey=True)
    names = [f"{in_words(each.column)}: {in_words(each.value)} ({each.films:,})" for each in subgroups]
    panels[0].set_yticks(np.arange(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    for panel, name, heading in zip(
        panels,
        ("auc", "sensitivity", "calibration"),
        ("Mean AUC", "Mean sensitivity, Youden's threshold", "Probability minus share of films"),
        strict=True,
    ):
        _draw(panel, [(getattr(each, name), getattr(each, f"{name}_difference")) for each in subgroups])
        panel.set_title(heading, fontsize=10)
    panels[2].axvline(0, color=GREY, linewidth=1)
    return figure


def _draw(panel: Axes, estimates: Sequence[tuple[Estimate, Estimate]]) -> None:
    tidy(panel, grid="x")
    panel.tick_params(axis="y", length=0)
    for row, (estimate, difference) in enumerate(estimates):
        if estimate.is_known:
            differs = difference.low > 0 or difference.high < 0
            colour = ORANGE if differs else BLUE
            panel.plot(estimate.interval, (row, row), color=colour, linewidth=1.6)
            panel.plot(estimate.value, row, "o", color=colour, markersize=6)
