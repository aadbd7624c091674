"""A registered model used on new films: a folder in, a table of probabilities out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from radflow.cluster.threads import set_threads
from radflow.config import flatten
from radflow.cores import available_cores
from radflow.data.decoding import read_film_file
from radflow.data.images import FILM_SUFFIXES, BadFilm, read_film
from radflow.data.sample import source_folder
from radflow.errors import UserError
from radflow.files import atomic_file, check_writable
from radflow.terminal import progress_bar, say
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.models import LoadedClassifier, load_classifier
from radflow.tracking.run import tracking_run

BATCH = 32
TABLE_SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Write the probabilities of all findings for a folder of films."""

    model: str = "models:/radflow-chest-densenet121@champion"
    """Any MLflow model URI of a model that radflow trained."""
    input: str = "sample"
    """A film, or a folder of PNG, JPEG and DICOM films searched in depth; sample stands for the phantom films."""
    output: str = "predictions.csv"
    """Table to write, .csv or .parquet; films that cannot be read are listed beside it in *.rejected.csv."""
    threads: int = 0
    """Threads of the computation; 0 is one a core."""

    def __post_init__(self) -> None:
        """Check the output's format before anything is computed."""
        if Path(self.output).suffix not in TABLE_SUFFIXES:
            raise UserError(f"output={self.output} must end in .csv or .parquet")


def predict(config: PredictConfig) -> pd.DataFrame:
    """Predict every readable film and write the table, a row per film in the order of their paths.

    Raises
    ------
    UserError
        No model, no films, or no readable film among them.
    """
    set_threads(config.threads)
    folder = source_folder(config.input)
    films = find_films(folder)
    check_writable(Path(config.output))
    prepare_tracking()
    model = load_classifier(config.model)
    with tracking_run(f"predict-{folder.name}", flatten(config)) as run:
        started = time.perf_counter()
        table, rejected = _predict_films(model, films, folder)
        seconds = time.perf_counter() - started
        _write(table, Path(config.output), rejected)
        counts = {"predict/films": float(len(table)), "predict/rejected_films": float(len(rejected))}
        run.log_metrics({**counts, "throughput/images_per_second": len(table) / seconds}, step=0)
    say(f"{len(table)} films in {seconds:.1f} s ({len(table) / seconds:.1f} films/s): {config.output}")
    return table


def _predict_films(
    model: LoadedClassifier, films: Sequence[Path], folder: Path
) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """The table of probabilities, and the films that could not be read with the reason."""
    rejected: list[dict[str, str]] = []
    names, probabilities = [], []
    with progress_bar("predicting", "films", len(films)) as move:
        for batch_names, batch in _read_batches(films, folder, model.image_size, rejected):
            probabilities.append(model.predict(batch))
            names += batch_names
            move(len(names) + len(rejected))
    if not names:
        raise UserError(f"none of the {len(films)} films in {folder} could be read; the first: {rejected[0]['reason']}")
    table = pd.DataFrame(np.concatenate(probabilities), columns=list(model.findings))
    table.insert(0, "film", names)
    return table, rejected


def find_films(folder: Path) -> list[Path]:
    """The films at or below a path, in the order of their paths; a single file is taken whatever its name.

    Raises UserError where there is nothing.
    """
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise UserError(f"input={folder} does not exist; give a film or a folder of films")
    films = sorted(path for path in folder.rglob("*") if path.suffix.lower() in FILM_SUFFIXES and path.is_file())
    if not films:
        raise UserError(f"input={folder} holds no films; expected files ending in {', '.join(FILM_SUFFIXES)}")
    return films


def _read_batches(
    films: Sequence[Path], folder: Path, image_size: int, rejected: list[dict[str, str]]
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Names and pixels uint8 [n, size, size] of readable films; the others are added to `rejected`."""

    def read(path: Path) -> np.ndarray | BadFilm:
        try:
            return read_film(read_film_file(path), path.name, image_size)
        except BadFilm as reason:
            return reason

    def name(path: Path) -> str:
        return path.name if path == folder else path.relative_to(folder).as_posix()

    with ThreadPoolExecutor(max_workers=available_cores()) as pool:
        for start in range(0, len(films), BATCH):
            paths = films[start : start + BATCH]
            names, pixels = [], []
            for path, film in zip(paths, pool.map(read, paths), strict=True):
                if isinstance(film, BadFilm):
                    rejected.append({"film": name(path), "reason": str(film)})
                else:
                    names.append(name(path))
                    pixels.append(film)
            if names:
                yield names, np.stack(pixels)


def _write(table: pd.DataFrame, output: Path, rejected: list[dict[str, str]]) -> None:
    with atomic_file(output) as temporary:
        if output.suffix == ".csv":
            table.to_csv(temporary, index=False, float_format="%.6f")
        else:
            table.to_parquet(temporary, index=False)
    listing = output.with_suffix(".rejected.csv")
    listing.unlink(missing_ok=True)
    if rejected:
        with atomic_file(listing) as temporary:
            pd.DataFrame(rejected).to_csv(temporary, index=False)
        say(f"warning: {len(rejected)} films could not be read; they are listed in {listing}")
