"""Entry point `preprocess`: films as released -> a dataset on disk, with its counts, tables and pictures in a run."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from radflow.cluster.launchers.started_ranks import was_launched
from radflow.commands.preprocess_hosts import make_units_of_host, units_of_hosts
from radflow.config import flatten
from radflow.data.config import PreprocessConfig
from radflow.data.dataset.frequencies import frequency_table
from radflow.data.dataset.manifest import MANIFEST_NAME, REJECTED_NAME
from radflow.data.dataset.reading import Dataset
from radflow.data.findings import key_of
from radflow.data.preprocess import resolve
from radflow.data.sample import preprocess_with_bar, source_folder
from radflow.plots.overview import draw_overview, print_overview, rejection_table, split_table
from radflow.terminal import say
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.run import TrackedRun, tracking_run


def preprocess(config: PreprocessConfig) -> Dataset | None:
    """Preprocess `config.source` into `config.out`, print what is in it and log that with its pictures.

    Started as one of several hosts' processes, make the units that are its own, and return None.
    """
    if was_launched():
        make_units_of_host(config)
        return None
    # A wrong folder is told at once, before MLflow is imported.
    resolved = resolve(replace(config, source=str(source_folder(config.source))))
    prepare_tracking()
    with tracking_run(f"preprocess-{Path(config.out).name}", flatten(resolved)) as run:
        with units_of_hosts(resolved) if resolved.hosts else nullcontext() as units:
            dataset = preprocess_with_bar(resolved, units)
        print_overview(dataset)
        for note in dataset.manifest.notes:
            say(note)
        _log(dataset, resolved.seed, run)
        say(f"dataset: {dataset.path}")
    return dataset


def _log(dataset: Dataset, seed: int, run: TrackedRun) -> None:
    metrics = {"data/rejected_films": float(dataset.manifest.rejected)}
    for split, counts in dataset.manifest.splits.items():
        metrics |= {f"data/films/{split}": counts.rows, f"data/patients/{split}": counts.patients}
        metrics |= {f"data/positives/{split}/{key_of(finding)}": count for finding, count in counts.positives.items()}
        metrics |= {f"data/unknown/{split}/{key_of(finding)}": count for finding, count in counts.unknown.items()}
    run.log_metrics(metrics, step=0)
    run.log_table(frequency_table(dataset), "table_1.json")
    run.log_table(split_table(dataset), "splits.json")
    run.log_table(rejection_table(dataset), "rejections.json")
    run.log_file(dataset.path / MANIFEST_NAME, "dataset")
    for name in (REJECTED_NAME, *(entry.file for entry in dataset.manifest.tables)):
        run.log_file(dataset.path / name, "dataset")
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "figures"
        for picture in draw_overview(dataset, folder, seed):
            run.log_file(picture, str(picture.parent.relative_to(temporary)))
    run.set_tags({"radflow.data_name": dataset.name, "radflow.data_digest": dataset.digest})
