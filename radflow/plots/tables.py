"""Tables of one look: on the terminal, and in the Markdown of notes and model cards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

_RULES = {"l": "---", "c": ":---:", "r": "---:"}
_SIDES: dict[str, JustifyMethod] = {"l": "left", "c": "center", "r": "right"}


def terminal_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str | Text]], align: str = "") -> Table:
    """Make a table for the terminal, to which rows and sections can be added.

    Parameters
    ----------
    title : str
    headings : one for each column
    rows : cells; a string is shown letter for letter, a Text with its style
    align : str
        A letter for each column: l, c or r; all are left-aligned by default.
    """
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD)
    for heading, side in zip(headings, align or "l" * len(headings), strict=True):
        table.add_column(heading, justify=_SIDES[side])
    for row in rows:
        # Text, because rich would read "[red]" in a name as a style.
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return table


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> str:
    """Write a table in GitHub-flavoured Markdown, without a last newline; `align` as for `terminal_table`.

    Cells are Markdown: names are given through `escaped`.
    """
    rule = "|".join(_RULES[side] for side in align or "l" * len(headings))
    return "\n".join([markdown_row(headings), f"|{rule}|", *map(markdown_row, rows)])


def markdown_row(cells: Iterable[str]) -> str:
    """Write one row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def escaped(name: str) -> str:
    """Show a name in Markdown letter for letter: no emphasis, links, HTML or table cells come of it."""
    return re.sub(r"([\\`*_\[\]<>|~&$])", r"\\\1", " ".join(name.split()))
