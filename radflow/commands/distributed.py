"""Entry point `distributed`: starts the ranks and waits for them; in a rank, trains.

TensorFlow is imported only after threads are set and mistakes are found.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import cast

from radflow.cluster.launchers.job_watch import JobEnd
from radflow.cluster.launchers.secrets_file import take_secrets
from radflow.cluster.launchers.started_ranks import (
    check_scheduler,
    is_rank,
    rank_number,
    rank_on_this_node,
    ranks_on_this_node,
)
from radflow.cluster.threads import set_threads
from radflow.cluster.watchdog import Watchdog
from radflow.errors import MISTAKE, JobError
from radflow.scaling.layouts import plan_ranks_here
from radflow.terminal import import_tensorflow
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.keep_killed import keep_killed
from radflow.tracking.run import close_abandoned_run, create_run, fail_open_runs, resume_run
from radflow.training.config import DistributedConfig
from radflow.training.initial_weights import check_weights
from radflow.training.inputs import open_training_dataset
from radflow.training.job_folder import job_to_resume
from radflow.training.plan import TrainingFilms, show_plan
from radflow.training.restarts import RankStart, run_ranks


def distributed(config: DistributedConfig) -> None:
    """Start the ranks and wait for them; in a rank, train."""
    check_scheduler()
    if is_rank():
        _train_as_rank(config)
    else:
        _launch_ranks(config)


def _train_as_rank(config: DistributedConfig) -> None:
    take_secrets()
    set_threads(config.told_threads, ranks_on_this_node())
    import_tensorflow()
    from radflow.cluster.devices import take_gpu
    from radflow.training.rank import train_as_rank

    take_gpu(rank_on_this_node(), ranks_on_this_node())
    train_as_rank(config, Watchdog(rank_number(), config.stall_seconds, before_ending=fail_open_runs))


def _launch_ranks(config: DistributedConfig) -> None:
    check_weights(config.model)
    dataset = open_training_dataset(config.data)
    films = TrainingFilms.of(dataset)
    plan = plan_ranks_here(config, films, may_measure=True)
    config = cast("DistributedConfig", plan.config)  # with its ranks and threads settled
    earlier = job_to_resume(plan.settings)
    show_plan(plan)
    prepare_tracking()
    # The run is made here, so that it can be closed as failed when the ranks die too suddenly to do it themselves.
    if earlier:
        resume_run(earlier.run_id)
    run_id = create_run(config.run_name(dataset.name))
    try:
        end = run_ranks(RankStart(config, films, run_id, earlier))
    except KeyboardInterrupt as interruption:
        _settle(run_id, "KILLED", str(interruption), replaces=("RUNNING", "FAILED", "KILLED"))
        keep_killed(run_id)
        raise
    except Exception as error:
        _settle(run_id, "FAILED", str(error))
        raise
    if end.code:
        _raise_failure(end, run_id)


def _raise_failure(end: JobEnd, run_id: str) -> None:
    """End the run of ranks that have failed, and tell why."""
    reason = end.reason or f"a rank failed; the job ended with exit code {end.code}"
    # mpirun ends the other ranks with SIGTERM when one has failed: to the first rank that looks like a user's.
    _settle(run_id, "FAILED", reason, replaces=("RUNNING", "KILLED", *(["FAILED"] if end.may_recover else [])))
    if end.code == MISTAKE:
        sys.exit(MISTAKE)  # a rank has said in its one line what was wrong
    if end.code < 0 and not end.reason:
        raise JobError(f"the launching program was ended by {signal.Signals(-end.code).name}, and its ranks with it")
    raise JobError(end.reason or f"the ranks ended with exit code {end.code}; the reason is above")


def _settle(run_id: str, status: str, reason: str, replaces: Sequence[str] = ("RUNNING",)) -> None:
    """Let the launcher, which knows whether a user stopped the job, correct what the first rank could say."""
    close_abandoned_run(run_id, reason, status, replaces, patience=30.0)
