"""The trainings of a study: each cell in a process and a run of its own, several at a time, none twice."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

from radflow.cpu import share_cores
from radflow.data.dataset.reading import Dataset
from radflow.errors import Interrupted, JobError
from radflow.evaluation.predictions import read_predictions
from radflow.files import atomic_file
from radflow.locks import only_one_process
from radflow.studies.cells import Cell, CellResult, identity, next_cells, training_of
from radflow.studies.experiment import Protocol, Settings
from radflow.terminal import progress_bar, say
from radflow.tracking.finished_runs import tag_run
from radflow.tracking.run import STUDY_TAG
from radflow.training.child_process import training_command
from radflow.training.config import TrainingConfig
from radflow.training.divergence import is_divergence
from radflow.training.history import HISTORY_FILE, last_epochs
from radflow.training.job_folder import PREDICTIONS_FILE, Job
from radflow.training.own_run import OwnRun

CELL_TAG, SEED_TAG, RATE_TAG = "radflow.cell", "radflow.seed", "radflow.rate"
DIVERGED_FILE = "diverged"
"""In the folder of a cell whose loss was not finite: the message, so that it is not trained again."""

OnResults = Callable[[Sequence[CellResult]], None]


class CellTrainer:
    """Trains the cells of one study until none is left."""

    def __init__(
        self,
        study: str,
        protocol: Protocol,
        shared: Settings,
        imagenet: Mapping[str, str],
        datasets: Mapping[str, Dataset],
        folder: Path,
    ) -> None:
        """Keep what all trainings share.

        Parameters
        ----------
        study : name for tags and messages
        protocol : its arms
        shared : flags of every training, before those of the protocol
        imagenet : files of ImageNet's weights by network
        datasets : by entry point
        folder : where each cell has a folder, those of other studies too
        """
        self._study = study
        self._protocol = protocol
        self._shared = {**shared, **protocol.settings}
        self._imagenet = imagenet
        self._datasets = datasets
        self._folder = folder
        self._is_over = threading.Event()

    def train_all(self, seeds: int, workers: int, on_results: OnResults) -> list[CellResult]:
        """Train what is not finished, `workers` cells at a time; `on_results` gets all results after each.

        Raises
        ------
        UserError
            A training was told something wrong.
        JobError
            A training failed, for another reason than a loss that is not finite.
        """
        results: list[CellResult] = []
        cores, free = sorted(os.sched_getaffinity(0)), SimpleQueue[int]()
        for number in range(workers):
            free.put(number)

        def train(cell: Cell, known: Sequence[CellResult]) -> CellResult:
            number = free.get()
            try:
                share_cores(number, workers, cores)
                return self._train(cell, known)
            finally:
                free.put(number)

        with progress_bar(self._study, "cells") as move, ThreadPoolExecutor(workers) as pool:
            try:
                while cells := next_cells(self._protocol, results, seeds):
                    known = tuple(results)
                    for result in pool.map(train, cells, [known] * len(cells)):
                        results.append(result)
                        move(len(results), total=len(known) + len(cells))
                        on_results(results)
            except BaseException:
                self._is_over.set()  # ends the trainings that are under way, for which the pool waits
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return results

    def _train(self, cell: Cell, known: Sequence[CellResult]) -> CellResult:
        entry_point = cell.arm.entry_point
        dataset = self._datasets[entry_point]
        config = replace(training_of(cell, self._shared, known, self._imagenet), data=str(dataset.path))
        number = identity(config, entry_point, dataset.digest)
        with only_one_process(self._folder / f".{number}.lock"):  # the same cell may be another's too, and at work
            self._end_if_over()
            return self._finish(cell, config, number)

    def _finish(self, cell: Cell, config: TrainingConfig, number: str) -> CellResult:
        """Train what is not trained yet, in this study or in another, whatever the cell is called there."""
        folder = next(iter(sorted(self._folder.glob(f"*-{number}"))), self._folder / f"{cell.slug}-{number}")
        tags = {STUDY_TAG: self._study, CELL_TAG: cell.arm.name, SEED_TAG: str(cell.seed)}
        tags |= {} if cell.rate is None else {RATE_TAG: f"{cell.rate:g}"}
        command = training_command(replace(config, out=str(folder)), cell.arm.entry_point)
        training = OwnRun(cell.title, command, folder, f"{self._study}: {cell.title}", tags)
        if not (folder / DIVERGED_FILE).exists() and not (training.job and training.job.is_finished):
            self._run(training)
        else:
            say(f"{cell.title}: trained before")
        result = _read(cell, training.job, folder)
        if result.run_id:
            tag_run(result.run_id, {f"{STUDY_TAG}.{self._study}": cell.title})  # beside others that have it too
        return result

    def _run(self, training: OwnRun) -> None:
        started = time.monotonic()
        try:
            training.train(on_poll=self._end_if_over)
        except JobError as error:
            if not is_divergence(str(error)):
                raise
            with atomic_file(training.folder / DIVERGED_FILE) as file:
                file.write_text(f"{error}\n", encoding="utf-8")
            say(f"{training.title}: diverged after {time.monotonic() - started:.0f} s")
        else:
            say(f"{training.title}: {time.monotonic() - started:.0f} s")

    def _end_if_over(self) -> None:
        if self._is_over.is_set():
            raise Interrupted(signal.SIGTERM)


def _read(cell: Cell, job: Job | None, folder: Path) -> CellResult:
    if job is None:  # diverged before the first checkpoint
        return CellResult(cell, "", (), None, {})
    history = tuple(last_epochs(job.folder / HISTORY_FILE))
    if (folder / DIVERGED_FILE).exists():
        return CellResult(cell, job.run_id, history, None, job.settings)
    return CellResult(cell, job.run_id, history, read_predictions(job.folder / PREDICTIONS_FILE), job.settings)
