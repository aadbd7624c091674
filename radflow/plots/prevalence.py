"""How often findings are in a dataset, as pictures: in all, in each split, and together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from radflow.plots.style import BLUE, GREEN, GREY, ORANGE, in_words, legend_above, new_figure, new_rows, write_beside

_SPLIT_MARKS = (("o", BLUE), ("s", ORANGE), ("^", GREEN))


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
    figure, axes = new_rows(list(counts), title, height=1.3)
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
    figure, axes = new_rows(findings, title, height=1.7)
    rows = np.arange(len(findings))
    for number, (split, shares) in enumerate(prevalences.items()):
        mark, colour = _SPLIT_MARKS[number % len(_SPLIT_MARKS)]
        percent = [100 * shares[finding] for finding in findings]
        axes.plot(
            percent, rows, mark, color=colour, markerfacecolor="none", markeredgewidth=1.6, clip_on=False, label=split
        )
    for row, finding in enumerate(findings):
        shares_in_order = " / ".join(f"{100 * shares[finding]:.1f}" for shares in prevalences.values())
        write_beside(axes, f"{shares_in_order} %", row)
    write_beside(axes, " / ".join(prevalences), None)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter("{x:g} %")
    axes.set_xlabel("Films with the finding, of the films of the split")
    legend_above(axes, 3)
    return figure


def co_occurrence_figure(labels: np.ndarray, known: np.ndarray, findings: Sequence[str], title: str) -> Figure:
    """Which findings come together: of the films with the row's finding, the share with the column's too.

    Parameters
    ----------
    labels, known : bool [films, findings]
        Whether a finding is present, and whether that is known; a share is of the films where it is.
    findings : at least one
    title : str
    """
    all_known = known.all(axis=1)
    alone = labels[all_known & (labels.sum(axis=1) == 1)].sum(axis=0)
    together = np.column_stack([_count_pairs(labels, labels), alone])
    of = np.column_stack([_count_pairs(labels, known), labels[all_known].sum(axis=0)])
    counts = labels.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = 100 * together / of
    np.fill_diagonal(shares, np.nan)
    figure = new_figure(title, 2.0 + 0.36 * len(findings))
    axes = figure.subplots()
    axes.imshow(np.ma.masked_invalid(shares), cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        if not np.isnan(share):
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=9,
                      color="white" if share > 60 else "black")  # fmt: skip
    columns = [*map(in_words, findings), "nothing else"]
    axes.set_xticks(np.arange(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    rows = [f"{in_words(finding)} ({count:,})" for finding, count in zip(findings, counts, strict=True)]
    axes.set_yticks(np.arange(len(findings)), rows)
    axes.axvline(len(findings) - 0.5, color="white", linewidth=4)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("Of the films with the row's finding, per cent that show the column's too")
    return figure


def _count_pairs(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """How many films have both flags, of bool [films, n] and bool [films, m], int [n, m]."""
    return rows.T.astype(np.int64) @ columns.astype(np.int64)
