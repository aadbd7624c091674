"""Tables as a Markdown reader and a terminal show them."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt
from rich.console import Console
from rich.text import Text

from radflow.plots.tables import escaped, markdown_table, terminal_table


def test_markdown_is_a_table_with_the_alignment_asked_for() -> None:
    text = markdown_table(("Finding", "AUC", "Interval"), [(escaped("a|b_*c*"), "0.8", "-")], align="lrc")
    rendered = MarkdownIt("commonmark").enable("table").render(text)
    assert "<td>a|b_*c*</td>" in rendered
    assert '<td style="text-align:right">0.8</td>' in rendered
    assert '<td style="text-align:center">-</td>' in rendered


def test_terminal_shows_brackets_and_keeps_styles() -> None:
    table = terminal_table("[red]title", ("Name", "Count"), [("[bold]x", Text("1", style="red"))], align="lr")
    console = Console(width=60)
    with console.capture() as capture:
        console.print(table)
    lines = [line.split() for line in capture.get().splitlines()]
    assert ["[red]title"] in lines
    assert ["[bold]x", "1"] in lines


def test_alignment_has_a_letter_for_each_column() -> None:
    with pytest.raises(ValueError, match="zip"):
        terminal_table("title", ("Name", "Count"), [], align="l")
