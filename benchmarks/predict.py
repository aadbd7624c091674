"""Films a second of prediction, from files to a table, against the bare forward pass of the same model.

    python benchmarks/predict.py --model=models:/radflow-chest-vgg16@champion --input=/data/films

adds five damaged films to those of the folder and predicts them all; before and after, films that lie in memory go
through the model's graph alone, in batches of the same size, and the films are decoded alone. Decoding takes its time
from the same cores as the model, so that 1/(1/forward + 1/decoding) films/s are the most there can be; more than 0.95
of them are expected, and the damaged films and nothing else without probabilities.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

import radflow
from radflow.config import run_command
from radflow.inference.film_sources import Film, list_films, read_ahead
from radflow.inference.loaded_model import LoadedClassifier
from radflow.inference.predictor import BATCH, FilmPredictor


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Measure prediction."""

    model: str = "models:/radflow-chest-densenet121@champion"
    """Any MLflow model URI of a model that radflow trained."""
    input: str = "data/sample/films/images"
    """Folder of films."""
    rounds: int = 3
    """How often each is measured; the median ratio counts."""
    bare_batches: int = 16
    """Batches of a bare forward pass, of which there is one before and one after each prediction."""


def main(config: BenchmarkConfig) -> None:
    """Predict a folder with damaged films and compare with the bare forward pass."""
    model = radflow.load(config.model)
    classifier = model.classifier
    with tempfile.TemporaryDirectory() as temporary:
        damaged = write_damaged(Path(temporary), list_films(config.input)[0].content.read_bytes())
        films = [*list_films(config.input), *list_films(damaged)]
        batch = np.random.default_rng(0).integers(0, 256, (BATCH, *[classifier.image_size] * 2), np.uint8)
        model.predict(films[:BATCH])  # the first pass of a graph is not measured
        ratios, shares = [], []
        for _ in range(config.rounds):
            before = bare_forward(classifier, batch, config.bare_batches)
            table, files_per_second = timed_prediction(model, films)
            bare_per_second = (before + bare_forward(classifier, batch, config.bare_batches)) / 2
            decoded_per_second = bare_decoding(films, classifier.image_size)
            limit = 1 / (1 / bare_per_second + 1 / decoded_per_second)
            ratios.append(files_per_second / bare_per_second)
            shares.append(files_per_second / limit)
            print(
                f"{len(films)} files: {files_per_second:.1f} films/s; bare forward pass: {bare_per_second:.1f}, ratio "
                f"{ratios[-1]:.3f}; decoding alone: {decoded_per_second:.1f}, limit of both {limit:.1f}, "
                f"of it {shares[-1]:.3f}",
                flush=True,
            )
    rejected = table[table["error"].notna()]
    print(f"median ratio {median(ratios):.3f}, of the limit {median(shares):.3f}")
    print(f"{len(rejected)} films could not be read:")
    for film, reason in zip(rejected["film"], rejected["error"], strict=True):
        print(f"  {Path(film).name}: {reason}")


def write_damaged(folder: Path, good: bytes) -> list[Path]:
    """Five files that are no films any more: cut, changed, emptied, of another kind, too large."""
    header = bytearray(good[:4096])
    header[16:24] = (100_000).to_bytes(4, "big") * 2
    contents = {
        "cut.png": good[: len(good) // 2],
        "changed.png": good[:2000] + bytes(64) + good[2064:],
        "empty.png": b"",
        "text.dcm": b"not a film",
        "huge.png": bytes(header),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def timed_prediction(model: FilmPredictor, films: list[Film]) -> tuple[pd.DataFrame, float]:
    """The table, and files per second."""
    started = time.perf_counter()
    table = model.predict(films)
    return table, len(films) / (time.perf_counter() - started)


def bare_decoding(films: list[Film], size: int) -> float:
    """Films a second from files to pixels alone."""
    started = time.perf_counter()
    for _ in read_ahead(films, size, 2 * BATCH):
        pass
    return len(films) / (time.perf_counter() - started)


def bare_forward(classifier: LoadedClassifier, batch: np.ndarray, batches: int) -> float:
    """Films a second through the model's graph alone."""
    started = time.perf_counter()
    for _ in range(batches):
        classifier.predict(batch)
    return batches * len(batch) / (time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(run_command(BenchmarkConfig, main, sys.argv[1:]))
