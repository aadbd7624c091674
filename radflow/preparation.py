"""Films as released -> a data set on disk, with its counts, table and figure in an MLflow run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
from rich.table import Table

from radflow.config import flatten
from radflow.data.dataset import REJECTED_NAME, Dataset
from radflow.data.frequencies import TOTALS_ROW, frequency_table
from radflow.data.manifest import MANIFEST_NAME
from radflow.data.preprocess import PreprocessConfig, resolve
from radflow.data.sample import preprocess_with_bar, source_folder
from radflow.evaluation.figures import frequency_figure
from radflow.terminal import print_table, say
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.run import TrackedRun, tracking_run


def prepare(config: PreprocessConfig) -> Dataset:
    """Preprocess `config.source` into `config.out`, print the paper's Table I and log it all."""
    # A wrong folder is told at once, before MLflow is imported.
    resolved = resolve(replace(config, source=str(source_folder(config.source))))
    prepare_tracking()
    with tracking_run(f"preprocess-{Path(config.out).name}", flatten(resolved)) as run:
        dataset = preprocess_with_bar(resolved)
        table = frequency_table(dataset)
        print_table(_terminal_table(table, _title(dataset)))
        for note in dataset.manifest.notes:
            say(note)
        if rejected := dataset.manifest.rejected:
            say(f"{rejected:,} {dataset.manifest.unit} rejected: {dataset.path / REJECTED_NAME} says why")
        _log(dataset, table, run)
        say(f"data set: {dataset.path}")
    return dataset


def _title(dataset: Dataset) -> str:
    return f"{dataset.manifest.unit.capitalize()} by finding in {dataset.path.name}"


def _terminal_table(frequencies: pd.DataFrame, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in frequencies.columns:
        table.add_column(column, justify="left" if column == "Disease" else "right")
    for row in frequencies.itertuples(index=False):
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row))
    return table


def _log(dataset: Dataset, frequencies: pd.DataFrame, run: TrackedRun) -> None:
    metrics = {"data/rejected_films": float(dataset.manifest.rejected)}
    for split, counts in dataset.manifest.splits.items():
        metrics |= {f"data/films/{split}": counts.rows, f"data/patients/{split}": counts.patients}
        metrics |= {f"data/positives/{split}/{finding}": count for finding, count in counts.positives.items()}
    run.log_metrics(metrics, step=0)
    run.log_table(frequencies, "table_1.json")
    run.log_file(dataset.path / MANIFEST_NAME, "dataset")
    for name in (REJECTED_NAME, *(entry.file for entry in dataset.manifest.tables)):
        run.log_file(dataset.path / name, "dataset")
    images = dict(zip(frequencies["Disease"], frequencies["Images"], strict=True))
    total = images.pop(TOTALS_ROW)
    figure = frequency_figure(images, total, _title(dataset), dataset.manifest.unit)
    run.log_figure(figure, "figures/frequencies.png")
    run.set_tags({"radflow.data_name": dataset.name, "radflow.data_digest": dataset.digest})
