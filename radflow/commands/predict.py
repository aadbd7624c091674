"""Entry point `predict`: a registered model used on new films: a folder in, a table of probabilities out."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd

from radflow.cluster.threads import set_threads
from radflow.config import flatten
from radflow.data.sample import source_folder
from radflow.errors import UserError
from radflow.files import atomic_file, check_writable
from radflow.inference.config import PredictConfig
from radflow.inference.film_sources import list_films
from radflow.inference.loaded_model import load_classifier
from radflow.inference.predictor import FilmPredictor
from radflow.terminal import progress_bar, say, warn
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.run import tracking_run


def predict(config: PredictConfig) -> pd.DataFrame:
    """Predict every readable film and write the table, a row per film in the order of their paths.

    Raises
    ------
    UserError
        No model, no films, or no readable film among them.
    """
    set_threads(config.threads)
    folder = source_folder(config.input)
    films = list_films(folder)
    output = Path(config.output).absolute()
    check_writable(output)
    if config.features:
        check_writable(Path(config.features).absolute())
    prepare_tracking()
    model = FilmPredictor(load_classifier(config.model))
    with tracking_run(f"predict-{folder.name}", flatten(config)) as run:
        started = time.perf_counter()
        with progress_bar("predicting", "films", len(films)) as move:
            table = model.predict(
                films,
                config.chosen_thresholds,
                config.calibrated,
                config.heatmaps or None,
                config.heatmap_findings,
                config.features or None,
                move,
            )
        seconds = time.perf_counter() - started
        rejected = table.loc[table["error"].notna(), ["film", "error"]]
        if len(rejected) == len(table):
            first = rejected["error"].iloc[0]
            raise UserError(f"none of the {len(table)} films in {folder} could be read; the first: {first}")
        _write(table, rejected, output)
        counts = {"predict/films": float(len(table) - len(rejected)), "predict/rejected_films": float(len(rejected))}
        run.log_metrics({**counts, "throughput/images_per_second": len(table) / seconds}, step=0)
    say(f"{len(table)} films in {seconds:.1f} s ({len(table) / seconds:.1f} films/s): {output}")
    if config.features:
        say(f"features: {config.features}")
    if odd := int(table["warning"].notna().sum()):
        warn(f"{odd} of them look unlike frontal films; the column warning says why")
    if len(rejected):
        warn(f"{len(rejected)} of them could not be read; they are listed in {_listing(output)}")
    return table


def _write(table: pd.DataFrame, rejected: pd.DataFrame, output: Path) -> None:
    with atomic_file(output) as temporary:
        if output.suffix == ".csv":
            table.to_csv(temporary, index=False, float_format="%.6f")
        else:
            table.to_parquet(temporary, index=False)
    _listing(output).unlink(missing_ok=True)
    if len(rejected):
        with atomic_file(_listing(output)) as temporary:
            rejected.rename(columns={"error": "reason"}).to_csv(temporary, index=False)


def _listing(output: Path) -> Path:
    return output.with_suffix(".rejected.csv")
