from __future__ import annotations

import dataclasses
import math

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from radflow.evaluation.auc import FindingAuc
from radflow.plots.report import RunFacts, auc_table, evaluation_markdown, summary_markdown

RESULTS = {
    "Mass": FindingAuc(0.8, 0.7512, 0.8488, 150, 1350),
    "Pleural_Thickening": FindingAuc(0.6, 0.5, 0.7, 12, 1488),
    "Hernia": FindingAuc(math.nan, math.nan, math.nan, 0, 1500),
}
FACTS = RunFacts(
    model="DenseNet-121, batch norm",
    dataset="phantom_64",
    dataset_digest="0123456789abcdef" * 4,
    films={"train": 4000, "val": 500, "test": 1500},
    evaluated_split="test",
    ranks=2,
    local_batch=16,
    micro_steps=16,
    optimizer="adam",
    learning_rate=0.032,
    epochs=4,
    images_per_second=1234.56,
    seconds_per_epoch=250.2,
)


def _printed(results: dict[str, FindingAuc], **options: object) -> list[list[str]]:
    """The words of each line that a terminal shows."""
    console = Console(width=100)
    with console.capture() as capture:
        console.print(auc_table(results, "title", **options))
    return [line.split() for line in capture.get().splitlines() if line.strip()]


def test_the_terminal_shows_each_finding_and_the_mean() -> None:
    lines = _printed(RESULTS, mean_interval=(0.651, 0.749))
    assert ["Mass", "0.800", "0.751", "to", "0.849", "150", "1,500"] in lines
    assert ["Pleural_Thickening", "0.600", "0.500", "to", "0.700", "12", "1,500"] in lines
    assert ["Hernia", "-", "-", "0", "1,500"] in lines
    assert ["Mean", "0.700", "0.651", "to", "0.749"] in lines


def test_the_terminal_shows_a_mean_without_an_interval_and_no_findings() -> None:
    assert ["Mean", "0.700", "-"] in _printed(RESULTS)
    assert ["Mean", "-", "-"] in _printed({})


def test_the_terminal_shows_brackets_in_a_name() -> None:
    assert ["[bold]x[/bold]", "0.800"] in [line[:2] for line in _printed({"[bold]x[/bold]": RESULTS["Mass"]})]


def test_the_note_says_what_was_trained_on_what_and_how_well_it_does() -> None:
    note = summary_markdown(FACTS, RESULTS, (0.651, 0.749))
    rendered = MarkdownIt("commonmark").enable("table").render(note)
    assert "<strong>DenseNet-121, batch norm</strong> on <strong>phantom_64</strong>" in rendered
    assert "mean AUC <strong>0.700</strong> (95 % interval 0.651 to 0.749) over 2 of 3 findings on the test" in rendered
    assert "512 = ranks 2 x local batch 16 x micro-steps 16" in rendered
    assert "train 4,000, val 500, test 1,500" in rendered
    assert "0123456789ab" in rendered
    assert "adam, learning rate 0.032, epochs 4" in rendered
    assert "1,234.6 images/s, 250.2 s per epoch" in rendered
    assert "Research use only; not a medical device." in rendered


def test_the_notes_table_renders_as_a_table() -> None:
    rendered = MarkdownIt("commonmark").enable("table").render(summary_markdown(FACTS, RESULTS))
    assert rendered.count("<tr>") == 1 + len(RESULTS)
    assert "<td>Pleural_Thickening</td>" in rendered
    assert rendered.count(">0.600<") == 1


@pytest.mark.parametrize("name", ["a|b", "*x* _y_", "<script>alert(1)</script>", "[a](http://b)", "`c`", "\\", "&lt;"])
def test_a_name_appears_in_the_note_letter_for_letter(name: str) -> None:
    facts = dataclasses.replace(FACTS, model=name, dataset=name, optimizer=name)
    note = summary_markdown(facts, {name: RESULTS["Mass"]})
    tokens = MarkdownIt("commonmark").enable("table").parse(note)
    texts = ["".join(part.content for part in token.children) for token in tokens if token.type == "inline"]
    assert texts[0].startswith(f"{name} on {name}: mean AUC")
    assert name in texts
    kinds = {part.type for token in tokens if token.type == "inline" for part in token.children}
    assert kinds <= {"text", "text_special", "strong_open", "strong_close", "em_open", "em_close", "code_inline"}


def test_a_name_of_several_lines_cannot_start_a_heading() -> None:
    note = summary_markdown(dataclasses.replace(FACTS, dataset="films\n\n# Sold as a device"), RESULTS)
    assert "<h1>" not in MarkdownIt("commonmark").render(note)


def test_the_note_says_so_where_no_finding_has_both_classes() -> None:
    note = summary_markdown(FACTS, {"Hernia": RESULTS["Hernia"]})
    assert "no AUC on the test split" in note
    assert "nan" not in note


LEAKAGE = "31 of 47 test patients were seen in training (25 trained on, 6 validated on)"


def test_the_note_warns_of_patients_who_were_seen_in_training() -> None:
    assert "Leakage" not in summary_markdown(FACTS, RESULTS)
    note = summary_markdown(dataclasses.replace(FACTS, leakage=LEAKAGE), RESULTS)
    assert f"<strong>Leakage: {LEAKAGE}.</strong>" in MarkdownIt("commonmark").render(note)


def test_the_note_of_an_evaluation_has_its_aucs_and_the_warning() -> None:
    renderer = MarkdownIt("commonmark").enable("table")
    clean = renderer.render(evaluation_markdown("net on films_a, test films", RESULTS, (0.651, 0.749)))
    assert "<strong>net on films_a, test films</strong>: mean AUC <strong>0.700</strong>" in clean
    assert "95 % interval 0.651 to 0.749" in clean
    assert clean.count("<tr>") == 1 + len(RESULTS)
    assert "Leakage" not in clean
    warned = renderer.render(evaluation_markdown("net on films", RESULTS, (0.651, 0.749), LEAKAGE))
    assert f"<strong>Leakage: {LEAKAGE}.</strong>" in warned


def test_the_note_warns_of_a_global_batch_larger_than_the_training_split() -> None:
    assert "one step on all of them" not in summary_markdown(FACTS, RESULTS)
    assert "one step on all of them" in summary_markdown(dataclasses.replace(FACTS, micro_steps=256), RESULTS)
