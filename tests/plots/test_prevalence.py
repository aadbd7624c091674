from __future__ import annotations

import numpy as np
import pytest
from drawn_figures import draw, texts_of

from radflow.data.readers.chestxray14 import RELEASED_COUNTS, RELEASED_FILMS
from radflow.plots.prevalence import co_occurrence_figure, frequency_figure, prevalence_figure


def test_frequency_figure_shows_the_papers_table() -> None:
    figure = frequency_figure(RELEASED_COUNTS, RELEASED_FILMS, "ChestX-ray14")
    draw(figure)
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == list(RELEASED_COUNTS.values())
    texts = texts_of(figure)
    assert "19,894 (17.7%)" in texts
    assert "227 (0.2%)" in texts
    assert "No Finding" in texts


def test_frequencies_of_no_films_aredraw() -> None:
    figure = frequency_figure({"Mass": 0, "Hernia": 0}, 0, "nothing yet")
    draw(figure)
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0, 0]


def test_prevalence_figure_puts_each_split_in_the_findings_row() -> None:
    shares = {"train": {"Mass": 0.05, "Hernia": 0.002}, "test": {"Mass": 0.07, "Hernia": 0.0}}
    figure = prevalence_figure(shares, "ChestX-ray14")
    draw(figure)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["train"].get_xdata().tolist() == pytest.approx([5, 0.2])
    assert lines["test"].get_xdata().tolist() == pytest.approx([7, 0])
    assert lines["test"].get_ydata().tolist() == [0, 1]
    assert "5.0 / 7.0 %" in texts_of(figure)


def test_co_occurrence_figure_gives_shares_of_the_rows_films() -> None:
    # 4 films of A, one also of B and one of B and C; 3 of B; none of D.
    labels = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]], bool)
    figure = co_occurrence_figure(labels, np.ones_like(labels), ["A", "B", "C", "D"], "made")
    draw(figure)
    (axes,) = figure.axes
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {
        (1, 0): "50", (2, 0): "25", (3, 0): "0", (4, 0): "50",
        (0, 1): "67", (2, 1): "33", (3, 1): "0", (4, 1): "33",
        (0, 2): "100", (1, 2): "100", (3, 2): "0", (4, 2): "0",
    }  # fmt: skip
    assert [label.get_text() for label in axes.get_yticklabels()] == ["A (4)", "B (3)", "C (1)", "D (0)"]
    assert axes.get_xticklabels()[-1].get_text() == "nothing else"


def test_shares_are_of_the_films_of_which_the_column_s_finding_is_known() -> None:
    """Of three films of A, one shows B, one does not, and of one it is not known; that one counts nowhere else."""
    labels = np.array([[1, 1], [1, 0], [1, 0]], bool)
    known = np.array([[1, 1], [1, 1], [1, 0]], bool)
    (axes,) = co_occurrence_figure(labels, known, ["A", "B"], "made").axes
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {(1, 0): "50", (2, 0): "50", (0, 1): "100", (2, 1): "0"}


def test_a_name_with_dollars_is_not_a_formula() -> None:
    # Unbalanced braces in a formula make matplotlib raise.
    figure = frequency_figure({"$\\frac{$": 3, "b": 2}, 5, "data $\\frac{$ set")
    draw(figure)
    assert r"data \$\frac{\$ set" in texts_of(figure)
