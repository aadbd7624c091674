"""Entry point `distributed`: starts the ranks and waits for them; in a rank, trains.

TensorFlow is imported only after threads are set and mistakes are found.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from radflow.cluster.hosts import parse_hosts
from radflow.cluster.launchers.base import RankJob
from radflow.cluster.launchers.secrets_file import take_secrets
from radflow.cluster.launchers.started_ranks import (
    check_allocation,
    check_scheduler,
    found_ranks,
    is_rank,
    ranks_on_this_node,
    was_launched,
)
from radflow.cluster.launchers.table import prepare_launch
from radflow.cluster.threads import set_threads
from radflow.config import command_line, flatten
from radflow.data.dataset.reading import Dataset
from radflow.errors import MISTAKE, JobError, UserError
from radflow.models.precision import choose_precision
from radflow.terminal import import_tensorflow, say
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.keep_killed import keep_killed
from radflow.tracking.run import close_abandoned_run, create_run, resume_run
from radflow.training.config import DistributedConfig
from radflow.training.initial_weights import check_weights
from radflow.training.inputs import open_training_dataset
from radflow.training.job_folder import EXECUTION_SETTINGS, NEW_JOB, Job, job_to_resume
from radflow.training.plan import TrainingFilms, TrainingPlan, make_plan, plan_ranks, show_plan
from radflow.versions import installed_versions

if TYPE_CHECKING:
    from radflow.cluster.communicator import Communicator

PACKAGES_OF_RANKS = ("radflow", "keras", "numpy")
"""What all ranks compute with, beside TensorFlow; MLflow, for example, is the first rank's alone."""


def distributed(config: DistributedConfig) -> None:
    """Start the ranks and wait for them; in a rank, train."""
    check_scheduler()
    if is_rank():
        _train_as_rank(config)
    else:
        _launch_ranks(config)


def _launch_ranks(config: DistributedConfig) -> None:
    check_allocation(config.hosts)
    check_weights(config.model)
    dataset = open_training_dataset(config.data)
    plan = plan_ranks(config, TrainingFilms.of(dataset))
    earlier = job_to_resume(plan.settings)
    show_plan(plan)
    prepare_tracking()
    # The run is made here, so that it can be closed as failed when the ranks die too suddenly to do it themselves.
    if earlier:
        resume_run(earlier.run_id)
    run_id = create_run(config.run_name(dataset.name))
    ranks, hosts = plan.batches.ranks, parse_hosts(config.hosts)
    command = [sys.executable, "-m", "radflow", "distributed", *command_line(_of_ranks(config, ranks, earlier))]
    job = RankJob(command, ranks, hosts, config.threads, {"MLFLOW_RUN_ID": run_id})
    try:
        launch = prepare_launch(config.launcher, job)
        say(f"starting {launch}")
        code = launch.run()
    except KeyboardInterrupt as interruption:
        _settle(run_id, "KILLED", str(interruption), replaces=("RUNNING", "FAILED", "KILLED"))
        keep_killed(run_id)
        raise
    except Exception as error:
        _settle(run_id, "FAILED", str(error))
        raise
    if code:
        # mpirun ends the other ranks with SIGTERM when one has failed: to the first rank that looks like a user's.
        _settle(run_id, "FAILED", f"a rank failed; the job ended with exit code {code}", replaces=("RUNNING", "KILLED"))
    if code == MISTAKE:
        sys.exit(MISTAKE)  # a rank has said in its one line what was wrong
    if code < 0:
        raise JobError(f"{launch.launcher} was ended by {signal.Signals(-code).name}, and its {ranks} ranks with it")
    if code:
        raise JobError(f"{ranks} ranks ended with exit code {code}; the reason is above")


def _settle(run_id: str, status: str, reason: str, replaces: Sequence[str] = ("RUNNING",)) -> None:
    """Let the launcher, which knows whether a user stopped the job, correct what the first rank could say."""
    close_abandoned_run(run_id, reason, status, replaces, patience=30.0)


def _train_as_rank(config: DistributedConfig) -> None:
    take_secrets()
    set_threads(config.threads, ranks_on_this_node())
    import_tensorflow()
    from radflow.cluster.communicator import HorovodCommunicator
    from radflow.training.job import run_job

    communicator = HorovodCommunicator()
    dataset = _open_alike(config, communicator)
    plan = communicator.raise_together(lambda: _plan_of_rank(config, dataset, communicator.size))
    if not was_launched():
        communicator.on_first_rank(lambda: _show_found_ranks(plan))
    run_job(plan, dataset, communicator)


def _show_found_ranks(plan: TrainingPlan) -> None:
    show_plan(plan)
    say(f"nothing to launch: {plan.batches.ranks} ranks are running already (found {found_ranks()})")


def _open_alike(config: DistributedConfig, communicator: Communicator) -> Dataset:
    """Open the dataset on every rank; raises UserError on all of them where they would not train the same."""
    import tensorflow as tf

    from radflow.cluster.agreement import Agreement, check_agreement

    versions = {**installed_versions(PACKAGES_OF_RANKS), "tensorflow": tf.__version__}
    told = {name: value for name, value in flatten(config).items() if name not in {*EXECUTION_SETTINGS, "data"}}
    precision = {"precision": choose_precision(config.model.precision)}
    for agreement in (
        Agreement("versions", versions, "install the same on all hosts"),
        Agreement("settings", told, "start all ranks with the same flags and the same config file"),
        Agreement("number formats", precision, "give precision=float32, which every host computes"),
    ):
        check_agreement(communicator, agreement)
    dataset = communicator.raise_together(lambda: open_training_dataset(config.data))
    digest = {"SHA-256": dataset.digest[:16]}
    fix = "copy one dataset to all hosts, and start when no preprocess writes it"
    check_agreement(communicator, Agreement("datasets", digest, fix))
    return dataset


def _plan_of_rank(config: DistributedConfig, dataset: Dataset, ranks: int) -> TrainingPlan:
    if config.np not in ("auto", ranks):
        raise UserError(f"np={config.np} given, but {ranks} ranks were started; leave np=auto")
    films = TrainingFilms.of(dataset)
    local_batch = config.largest_local_batch(films.image_size)
    return make_plan(config, films, config.gbz, local_batch, ranks, config.first_global_batches)


def _of_ranks(config: DistributedConfig, ranks: int, earlier: Job | None) -> DistributedConfig:
    """What ranks are told: their number, and the job that they resume with the normalisation that it began with."""
    config = replace(config, np=ranks, resume=str(earlier.folder) if earlier else NEW_JOB)
    if earlier and config.model.norm == "auto":
        return replace(config, model=replace(config.model, norm=earlier.settings["norm"]))
    return config
