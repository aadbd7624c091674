"""Films a second of `preprocess` against Pillow's bare decoding of the same files, and the memory of a worker.

    python benchmarks/preprocess.py --folder=data/benchmark --films=512

draws 512 phantom films of 1024x1024 (3 minutes, kept in the folder for the next time), and where RADFLOW_TEST_DATA
holds original films of ChestX-ray14 takes these too. Preprocessing and bare decoding take turns, by as many processes,
so that both meet the machine in the same state. Expected: preprocessing, which decodes, checks, resizes, writes and
hashes, reaches 85 % of the films of bare decoding, with less than 300 MB a worker.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil
from PIL import Image

from radflow.config import run_command
from radflow.cpu import available_cores
from radflow.data.config import PreprocessConfig
from radflow.data.decoding import FILMS_PER_TASK, in_order
from radflow.data.phantom.chest.folder import write_phantom_films
from radflow.data.preprocess import preprocess

SAMPLES_OF_MEMORY = 20


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Measure preprocessing against bare decoding."""

    folder: str = "data/benchmark"
    """Folder for the films, which are kept, and the dataset."""
    films: int = 512
    """Films of each kind."""
    workers: int = 0
    """Processes (0 = all usable cores)."""
    rounds: int = 3
    """How often each is measured; the median counts."""


def main(config: BenchmarkConfig) -> None:
    """Measure phantoms, and originals where they are."""
    folder, workers = Path(config.folder), config.workers or available_cores()
    phantoms = folder / f"phantoms-{config.films}"
    if not phantoms.exists():
        write_phantom_films(phantoms, config.films, 1024, seed=0)
    measure("phantom films", phantoms, folder / "dataset", workers, config.rounds)
    originals = Path(os.environ.get("RADFLOW_TEST_DATA", "../shared/data")) / "nih" / "originals"
    if originals.is_dir():
        measure("original films", release_of(originals, phantoms), folder / "dataset", workers, config.rounds)


def release_of(originals: Path, phantoms: Path) -> Path:
    """The phantoms' lists with the originals, over and over, as films."""
    release = phantoms.with_name(phantoms.name.replace("phantoms", "originals"))
    shutil.rmtree(release, ignore_errors=True)
    (release / "images").mkdir(parents=True)
    for name in ("Data_Entry_2017.csv", "train_val_list.txt", "test_list.txt"):
        shutil.copy(phantoms / name, release)
    files = sorted(originals.resolve().glob("*.png"))
    for number, film in enumerate(sorted((phantoms / "images").iterdir())):
        (release / "images" / film.name).symlink_to(files[number % len(files)])
    return release


def measure(title: str, release: Path, out: Path, workers: int, rounds: int) -> None:
    """Take turns, and print medians."""
    files = sorted((release / "images").iterdir())
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    print(
        f"{len(files)} {title} of 1024x1024 pixels, {megabytes:.0f} MB, {workers} workers, {rounds} rounds", flush=True
    )
    alone, bare, whole, peaks = [], [], [], []
    for _ in range(rounds):
        alone.append(decode_bare(files, 1))
        bare.append(decode_bare(files, workers))
        cost, peak = preprocess_measured(release, out, workers, len(files))
        whole.append(cost)
        peaks.append(peak)
    show("bare decoding, 1 process", alone)
    show(f"bare decoding, {workers} processes", bare)
    show(f"preprocess, {workers} workers", whole)
    by_rate = median(theirs.seconds / ours.seconds for ours, theirs in zip(whole, bare, strict=True))
    by_cores = median(theirs.core_seconds / ours.core_seconds for ours, theirs in zip(whole, bare, strict=True))
    print(f"  share of bare decoding    {by_rate:6.1%} by the clock, {by_cores:.1%} by cores' time (target: 85 %)")
    print(f"  peak memory of a worker   {max(peaks) / 2**20:6.1f} MB (target: under 300 MB)", flush=True)


def show(what: str, costs: list[Cost]) -> None:
    """Print the medians of a row."""
    rate, time_of_cores = 1 / median(cost.seconds for cost in costs), median(cost.core_seconds for cost in costs)
    print(f"  {what:26}{rate:6.1f} films/s, {1000 * time_of_cores:.2f} ms of a core a film", flush=True)


class Cost(NamedTuple):
    """What one film costs."""

    seconds: float
    core_seconds: float
    """of this process and those that it has started; other programs that share the cores change it less"""


class Stopwatch:
    """Runs from the end of the first task on: processes start once for a dataset, not once for some hundred films."""

    def __init__(self) -> None:
        self._of_children = 0.0
        self._started = self._now()

    def cost(self, films: int) -> Cost:
        """Time since the start, for each of as many films; processes that have ended since count as last seen."""
        return Cost(*((now - then) / films for now, then in zip(self._now(), self._started, strict=True)))

    def _now(self) -> tuple[float, float]:
        alive = sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children())
        self._of_children = max(self._of_children, alive)
        return time.perf_counter(), time.process_time() + self._of_children


def decode_bare(files: list[Path], processes: int) -> Cost:
    """Let Pillow open and load the films in the processes that preprocessing would use, and forget them."""
    remaining = iter(files)
    tasks = iter(lambda: list(islice(remaining, FILMS_PER_TASK)), [])
    results = in_order(load_films, tasks, processes, name_of=str)
    decoded = next(results)
    stopwatch, cost = Stopwatch(), Cost(0, 0)
    for films in results:
        decoded += films
        cost = stopwatch.cost(decoded - FILMS_PER_TASK)
    return cost


def load_films(files: list[Path]) -> int:
    """Decode films by Pillow."""
    for file in files:
        with Image.open(file) as film:
            film.load()
    return len(files)


def preprocess_measured(release: Path, out: Path, workers: int, films: int) -> tuple[Cost, int]:
    """What preprocessing costs until the dataset is on disk, and the peak memory of a worker in bytes."""
    stopwatch, peak = Stopwatch(), 0

    def watch(done: int, total: int, _rejected: int) -> None:
        nonlocal stopwatch, peak
        if done == FILMS_PER_TASK:
            stopwatch = Stopwatch()
        if done % (films // SAMPLES_OF_MEMORY) == 0 or done == total:
            peak = max([peak, *workers_peaks()])
            stopwatch.cost(done)

    preprocess(PreprocessConfig(source=str(release), out=str(out), workers=workers), watch)
    return stopwatch.cost(films - FILMS_PER_TASK), peak


def workers_peaks() -> Iterator[int]:
    """Largest resident memory so far of each process that this one has started, in bytes."""
    for child in psutil.Process().children():
        status = Path(f"/proc/{child.pid}/status").read_text(encoding="utf-8")
        yield int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    sys.exit(run_command(BenchmarkConfig, main, sys.argv[1:]))
