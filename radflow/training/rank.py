"""A rank of a distributed training: it joins the others, finds that all are alike, and trains."""

from __future__ import annotations

import os
import sys

import tensorflow as tf

from radflow.cluster.agreement import Agreement, check_agreement, check_clocks
from radflow.cluster.communicator import Communicator, HorovodCommunicator
from radflow.cluster.launchers.started_ranks import found_ranks, was_launched
from radflow.cluster.reports import this_host
from radflow.cluster.watchdog import STALLED, LostRankError, Watchdog
from radflow.config import flatten
from radflow.data.dataset.reading import Dataset
from radflow.errors import JobError, UserError
from radflow.models.precision import choose_precision
from radflow.terminal import say
from radflow.training.config import DistributedConfig
from radflow.training.inputs import open_training_dataset
from radflow.training.job import run_job
from radflow.training.job_folder import EXECUTION_SETTINGS
from radflow.training.plan import TrainingFilms, TrainingPlan, make_plan, show_plan
from radflow.versions import installed_versions

PACKAGES_OF_RANKS = ("radflow", "keras", "numpy")
"""What all ranks compute with, beside TensorFlow; MLflow, for example, is the first rank's alone."""


def train_as_rank(config: DistributedConfig, watchdog: Watchdog) -> None:
    """Train together with the other ranks.

    Raises JobError where another rank is gone and no launcher is there to tell.
    """
    try:
        with watchdog.watching():
            if config.timeline:
                os.environ["HOROVOD_TIMELINE"] = "DYNAMIC"
            communicator = HorovodCommunicator(watchdog.heartbeat)
            dataset = _open_alike(config, communicator)
            plan = communicator.raise_together(lambda: _plan_of_rank(config, dataset, communicator.size))
            if not was_launched():
                communicator.on_first_rank(lambda: _show_found_ranks(plan))
            run_job(plan, dataset, communicator)
    except LostRankError as error:
        if was_launched():
            sys.exit(STALLED)
        raise JobError(str(error)) from error


def _show_found_ranks(plan: TrainingPlan) -> None:
    show_plan(plan)
    say(f"nothing to launch: {plan.batches.ranks} ranks are running already (found {found_ranks()})")


def _open_alike(config: DistributedConfig, communicator: Communicator) -> Dataset:
    """Open the dataset on every rank; raises UserError on all of them where they would not train the same."""
    versions = {**installed_versions(PACKAGES_OF_RANKS), "tensorflow": tf.__version__}
    told = {name: value for name, value in flatten(config).items() if name not in {*EXECUTION_SETTINGS, "data"}}
    precision = {"precision": choose_precision(config.model.precision)}
    for agreement in (
        Agreement("versions", versions, "install the same on all hosts"),
        Agreement("settings", told, "start all ranks with the same flags and the same config file"),
        Agreement("number formats", precision, "give precision=float32, which every host computes"),
    ):
        check_agreement(communicator, agreement)
    check_clocks(communicator)
    dataset = communicator.raise_together(lambda: _open_on_this_host(config.data))
    digest = {"SHA-256": dataset.digest[:16]}
    fix = "copy one dataset to all hosts, and start when no preprocess writes it"
    check_agreement(communicator, Agreement("datasets", digest, fix))
    return dataset


def _open_on_this_host(data: str) -> Dataset:
    try:
        return open_training_dataset(data)
    except UserError as error:
        raise UserError(f"on {this_host()}: {error}") from error


def _plan_of_rank(config: DistributedConfig, dataset: Dataset, ranks: int) -> TrainingPlan:
    if config.np not in ("auto", ranks):
        raise UserError(f"np={config.np} given, but {ranks} ranks were started; leave np=auto")
    films = TrainingFilms.of(dataset)
    local_batch = config.largest_local_batch(films.image_size)
    first = config.first_global_batches(films.count, ranks)
    return make_plan(config, films, config.gbz, local_batch, ranks, first)
