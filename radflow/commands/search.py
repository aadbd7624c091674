"""Entry point `search`: founds the study and its MLflow run, keeps the workers running, and reports."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna

from radflow.config import flatten
from radflow.cpu import available_cores, cores_of, share_cores
from radflow.data.sample import open_data
from radflow.errors import JobError, UserError
from radflow.models.config import ModelConfig
from radflow.search.config import SearchConfig
from radflow.search.report import SearchReport, best_trial
from radflow.search.runs import parent_run
from radflow.search.settings import check_ranks, check_settings, definition, shared_settings, study_name
from radflow.search.space import Space, read_space
from radflow.search.storage import study_storage
from radflow.search.study import create_or_load_study, ended_trials
from radflow.search.worker import Worker
from radflow.search.worker_pool import STORAGE, WORKER, keep_workers_running
from radflow.secrets import hide_secrets
from radflow.terminal import print_table, say
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.run import STUDY_TAG, resume_run, tracking_run
from radflow.training.initial_weights import check_weights


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
        share_cores(number, config.workers, sorted(os.sched_getaffinity(0)))
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
        study = create_or_load_study(config.study, storage, defined, baseline)
        parent = parent_run(study, config.study)
    resume_run(parent)
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
    dataset = open_data(config.data)
    for split in ("train", "val"):
        if not len(dataset.split(split)):
            raise UserError(
                f"data={config.data} holds no {split} films, by which trials are compared; preprocess again"
            )
    check_ranks(config, dataset, len(cores_of(0, config.workers, list(range(available_cores())))))
    return space, definition(config, space, dataset)
