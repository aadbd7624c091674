"""The search: founds the study and its MLflow run, keeps the workers running, and reports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna

from radflow.config import command_line, flatten
from radflow.cpu import available_cores
from radflow.data.dataset.reading import open_dataset
from radflow.data.sample import dataset_folder
from radflow.errors import MISTAKE, JobError, UserError
from radflow.models.config import ModelConfig
from radflow.processes import ends_with_parent, stop
from radflow.search.config import JOURNAL, SearchConfig
from radflow.search.report import SearchReport, best_trial
from radflow.search.runs import parent_run
from radflow.search.settings import check_ranks, check_settings, definition, shared_settings, study_name
from radflow.search.space import Space, read_space
from radflow.search.storage import study_storage
from radflow.search.study import ended_trials, found_study
from radflow.search.worker import Worker, cores_of, share_cores
from radflow.secrets import hide_secrets
from radflow.terminal import print_table, say
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.run import STUDY_TAG, go_on_with, tracking_run
from radflow.training.child_process import PATIENCE
from radflow.training.initial_weights import check_weights

WORKER = "RADFLOW_SEARCH_WORKER"
"""In the environment of a worker: its number, from 0."""
STORAGE = "RADFLOW_SEARCH_STORAGE"
"""Variable of a worker's environment: where the study is. A command line, which all can read, holds no password."""
_DEATHS = 10
"""Workers that may be killed before the search asks what is wrong with the machine."""
_LOOK_EVERY = 1.0


def search(config: SearchConfig) -> None:
    """Run trials until the study has `n_trials`; in a process that was started as a worker, be one.

    Raises
    ------
    UserError
        The space, the study, the storage or the parameters of a training are not right.
    JobError
        No trial was completed, or the workers die.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if WORKER in os.environ:
        config = replace(config, storage=os.environ[STORAGE])
        number = int(os.environ[WORKER])
        share_cores(number, config.workers)
        folder = Path(config.out) / config.study
        prepare_tracking()
        Worker(config, config.study, study_storage(config.storage, folder), folder).work()
    else:
        _search(config)


def _search(config: SearchConfig) -> None:
    space, defined = _check(config)
    config = replace(config, study=study_name(config, defined))
    folder = Path(config.out) / config.study
    storage = study_storage(config.storage, folder)
    baseline = space.baseline_params(shared_settings(config))
    prepare_tracking()
    with storage.exclusive():
        study = found_study(config.study, storage, defined, baseline)
        parent = parent_run(study, config.study)
    go_on_with(parent)
    settings = {**flatten(config), "storage": hide_secrets(config.storage)}
    with tracking_run(config.study, settings, {STUDY_TAG: config.study}) as run:
        before = len(ended_trials(study))
        say(f"study {config.study}: {f'{before} trials so far, ' if before else ''}{config.n_trials} wanted")
        report = SearchReport(study, config, space, folder, run)
        keep_workers_running(config, report.update)
        report.update()
        table = report.conclude()
        if best_trial(ended_trials(study)) is None:
            raise JobError(f"no trial was completed; their output is in {folder}/trial-*/output.log")
        print_table(table)
        say(f"best setting: {report.best_file}   (mlflow run . -e distributed -P config={report.best_file})")
        say(run.url())


def _check(config: SearchConfig) -> tuple[Space, dict[str, Any]]:
    """Find every mistake that can be found before the first training; return the space and the study's definition."""
    space = read_space(config.space)
    check_settings(config, space)
    check_weights(ModelConfig(arch=config.arch, weights=config.weights))
    dataset = open_dataset(dataset_folder(config.data))
    for split in ("train", "val"):
        if not len(dataset.split(split)):
            raise UserError(f"data={config.data} holds no {split} films, by which trials are compared; preprocess anew")
    check_ranks(config, dataset, len(cores_of(0, config.workers, list(range(available_cores())))))
    return space, definition(config, space, dataset)


def keep_workers_running(config: SearchConfig, look: Callable[[], None]) -> None:
    """Start the workers, replace those that are killed, and return when all have found nothing more to do.

    `look` is called about once a second. All workers and their trainings end with this function, however it ends.
    """
    workers = {number: _start_worker(config, number) for number in range(config.workers)}
    deaths = 0
    try:
        while workers:
            time.sleep(_LOOK_EVERY)
            look()
            for number, process in list(workers.items()):
                code = process.poll()
                if code is None:
                    continue
                del workers[number]
                if code == MISTAKE:
                    sys.exit(MISTAKE)  # the worker has said in its one line what was wrong
                if code > 0:
                    raise JobError(f"worker {number} ended with exit code {code}; the reason is above")
                if code < 0:
                    deaths += 1
                    if deaths > _DEATHS:
                        raise JobError(
                            f"{deaths} workers were killed; is there too little memory for {config.workers}?"
                        )
                    say(f"worker {number} was killed by {signal.Signals(-code).name}; another takes its place")
                    workers[number] = _start_worker(config, number)
    finally:
        for process in workers.values():
            process.terminate()
        for process in workers.values():
            stop(process, 2 * PATIENCE)


def _start_worker(config: SearchConfig, number: int) -> subprocess.Popen[bytes]:
    """Start a worker in a session of its own: a Ctrl-C of the terminal reaches it through this process, once."""
    return subprocess.Popen(
        [sys.executable, "-m", "entrypoints.search", *command_line(replace(config, storage=JOURNAL))],
        env={**os.environ, WORKER: str(number), STORAGE: config.storage},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=ends_with_parent(),
    )
