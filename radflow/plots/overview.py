"""A dataset as a person looks at it: tables of what is in it, sheets of films, and figures of its findings."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.table import Table

from radflow.data.dataset.frequencies import TOTALS_ROW, frequency_table
from radflow.data.dataset.manifest import REJECTED_NAME, SplitCounts
from radflow.data.dataset.reading import Dataset
from radflow.data.dataset.shards import FilmTable
from radflow.data.findings import key_of
from radflow.data.tables import read_rows
from radflow.files import atomic_file
from radflow.plots.contact_sheet import contact_sheets
from radflow.plots.prevalence import co_occurrence_figure, frequency_figure, prevalence_figure
from radflow.plots.tables import terminal_table
from radflow.terminal import print_table

SHEETS_FOLDER = "contact_sheets"


def print_overview(dataset: Dataset) -> None:
    """Print what is in a dataset: its splits, its findings, and what was left out of it."""
    manifest, rule = dataset.manifest, dataset.manifest.split_rule
    print_table(_terminal_table(f"Split {rule.rule}, seed {rule.seed}", split_table(dataset)))
    unit, size = manifest.unit, manifest.image_size
    what = f"{manifest.name}: {manifest.rows:,} {unit} of {size}x{size} pixels, with the share of the split"
    print_table(_terminal_table(what, _with_shares(dataset)))
    if any(counts.unknown for counts in manifest.splits.values()):
        title = "Labels that are not known, and those of them that are uncertain"
        print_table(_terminal_table(title, unknown_table(dataset)))
    reasons = rejection_table(dataset)
    if len(reasons):
        title = f"{manifest.rejected:,} rejected, {manifest.unlisted:,} in no split: {REJECTED_NAME} names each"
        print_table(_terminal_table(title, reasons))


def draw_overview(dataset: Dataset, folder: Path, seed: int) -> list[Path]:
    """Write contact sheets and figures as PNG files into `folder`; those of the same name are replaced."""
    name, findings, unit = dataset.path.name, dataset.findings, dataset.manifest.unit
    splits = {split: counts for split, counts in dataset.manifest.splits.items() if counts.rows}
    frequencies = frequency_table(dataset)
    images = dict(zip(frequencies["Disease"], frequencies["Images"], strict=True))
    films = images.pop(TOTALS_ROW)
    figures = {
        "frequencies": frequency_figure(images, films, f"{unit.capitalize()} by finding in {name}", unit),
        "prevalence": prevalence_figure(
            {split: _prevalences(counts) for split, counts in splits.items()}, f"Prevalence by split in {name}"
        ),
    }
    if len(findings) > 1:
        table = FilmTable.concatenate([dataset.split(split).table for split in splits])
        title = f"Findings that come together in {name}"
        figures["co_occurrence"] = co_occurrence_figure(table.labels, table.known, findings, title)
    written = []
    for title, figure in figures.items():
        written.append(folder / f"{title}.png")
        with atomic_file(written[-1]) as temporary:
            figure.savefig(temporary, format="png")
    for title, sheet in contact_sheets(dataset, seed):
        written.append(folder / SHEETS_FOLDER / f"{key_of(title).replace(' ', '_')}.png")
        with atomic_file(written[-1]) as temporary:
            sheet.save(temporary, format="PNG")
    return written


def split_table(dataset: Dataset) -> pd.DataFrame:
    """Images, patients and shards of each split and of all."""
    shards = dataset.manifest.shards
    rows = [
        {
            "Split": name,
            dataset.manifest.unit.capitalize(): counts.rows,
            "Patients": counts.patients,
            "No finding": counts.no_finding,
            "Shards": sum(shard.split == name for shard in shards),
            "MB": round(sum(shard.bytes for shard in shards if shard.split == name) / 1e6),
        }
        for name, counts in dataset.manifest.splits.items()
    ]
    table = pd.DataFrame(rows)
    table.loc[len(table)] = ["all", *table.drop(columns="Split").sum()]  # no patient is in two splits
    return table


def unknown_table(dataset: Dataset) -> pd.DataFrame:
    """How many films of each split have a finding that is not known, and how many of them possibly show it."""
    splits = dataset.manifest.splits
    rows = {
        finding: {
            name: f"{counts.unknown.get(finding, 0):,} ({counts.uncertain.get(finding, 0):,} uncertain)"
            for name, counts in splits.items()
        }
        for finding in dataset.findings
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("Finding").reset_index()


def rejection_table(dataset: Dataset) -> pd.DataFrame:
    """Why films are not in the dataset, the commonest reason first: Reason, Films, Example.

    Reasons that differ in words with digits, such as sizes and names of files, or in what follows a colon, are one.
    """
    rows = [cells for _, cells in read_rows(dataset.path / REJECTED_NAME, ("image_id", "reason"))]
    rejected = pd.DataFrame(rows, columns=["image_id", "reason"], dtype=str)
    without_details = rejected["reason"].str.replace(r":.*", "", regex=True)
    rejected["Reason"] = without_details.str.replace(r"\S*\d\S*", "...", regex=True)
    reasons = rejected.groupby("Reason")["image_id"].agg(Films="size", Example="first").reset_index()
    return reasons.sort_values(["Films", "Reason"], ascending=[False, True], ignore_index=True)


def _with_shares(dataset: Dataset) -> pd.DataFrame:
    """Table I with each count's share of its split."""
    table = frequency_table(dataset)
    columns = [name for name in table.columns if name not in ("Disease", "Percentage")]
    totals = table.iloc[-1]
    shown = {name: [_with_share(count, totals[name]) for count in table[name]] for name in columns}
    return pd.DataFrame({"Finding": table["Disease"], **shown}).rename(columns={"Images": "all"})


def _with_share(count: int, of: int) -> str:
    return f"{count:,} ({count / of:6.2%})" if of else "0"


def _prevalences(counts: SplitCounts) -> dict[str, float]:
    return {finding: counts.prevalence(finding) for finding in counts.positives}


def _terminal_table(title: str, content: pd.DataFrame) -> Table:
    align = "".join("l" if column in (content.columns[0], "Example") else "r" for column in content.columns)
    rows = [
        [f"{value:,}" if isinstance(value, int) else str(value) for value in row]
        for row in content.itertuples(index=False)
    ]
    return terminal_table(title, list(content.columns), rows, align)
