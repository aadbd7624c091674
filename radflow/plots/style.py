"""The look of every figure: 1000 pixels wide, one set of colours, a bold title at the left, few lines around the data.

No pyplot, no global state: a `Figure` belongs to whoever made it. Colours are those of Okabe and Ito, which readers
with any colour vision tell apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

BLUE, ORANGE, GREEN, PURPLE, AMBER = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
SKY, BLACK, GREY, PALE = "#56B4E9", "#000000", "#595959", "#D9D9D9"
WIDTH, DPI = 10.0, 100
"""Inches, and pixels in one."""

_COLOURS, _MARKS = (BLUE, ORANGE, GREEN, PURPLE, AMBER, GREY, SKY, BLACK), ("o", "s", "^", "D", "v", "P", "X")


def styled(labels: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Each label with its colour and mark: up to eight of other colours, and up to 56 of other colours and marks."""
    return zip(labels, cycle(_COLOURS), cycle(_MARKS))


def new_figure(title: str, height: float, gap: float | None = None) -> Figure:
    """Make an empty figure of `height` inches; `gap` is the space between panels, as a share of their width."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout=ConstrainedLayoutEngine(wspace=gap))
    figure.suptitle(in_words(title), x=0.01, ha="left", fontweight="bold", fontsize=12)
    return figure


def new_axes(title: str, height: float) -> tuple[Figure, Axes]:
    """Make a figure of one panel with a grid."""
    figure = new_figure(title, height)
    axes = figure.subplots()
    tidy(axes)
    return figure, axes


def new_rows(names: Sequence[str], title: str, height: float, row_height: float = 0.34) -> tuple[Figure, Axes]:
    """Make a panel with a row for each name, the first at the top; `height` in inches is what stands around them."""
    rows = max(len(names), 1)
    figure = new_figure(title, height + row_height * rows)
    axes = figure.subplots()
    tidy(axes, grid="x")
    axes.spines["left"].set_visible(False)
    axes.set_yticks(np.arange(len(names)), [in_words(name) for name in names])
    axes.set_ylim(rows - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    return figure, axes


def tidy(axes: Axes, grid: Literal["both", "x", "y"] = "both") -> None:
    """Take away the upper and the right edge, and put a pale grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)


def legend_above(axes: Axes, columns: int, **spacing: float) -> None:
    """Put the legend above the panel, in up to so many columns; `spacing` as matplotlib's legend takes it."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        frameon=False,
        fontsize=9,
        borderaxespad=0.2,
        **spacing,
    )


def write_beside(axes: Axes, text: str, row: float | None) -> None:
    """Write at the right of a row, or where that is None, above what stands there as its heading."""
    place, coordinates = (1.02 if row is None else row), ("axes fraction" if row is None else "data")
    axes.annotate(text, (1.02, place), xycoords=("axes fraction", coordinates), va="center", fontsize=9, color=GREY)


def in_words(text: str) -> str:
    """Write a name as a reader does; a dollar sign is a dollar sign, not the start of a formula."""
    return text.replace("_", " ").replace("$", r"\$")
