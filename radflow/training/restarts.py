"""The ranks of a training, started again from its last checkpoint when one died, hung, or lost its host."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from radflow.cluster.hosts import answers, is_local, parse_hosts
from radflow.cluster.launchers.base import RankJob
from radflow.cluster.launchers.job_watch import JobEnd
from radflow.cluster.launchers.table import prepare_launch
from radflow.config import command_line
from radflow.terminal import say, warn
from radflow.tracking.run import resume_run
from radflow.training.config import DistributedConfig
from radflow.training.job_folder import NEW_JOB, Job, job_of_run
from radflow.training.plan import TrainingFilms, plan_ranks


@dataclass(frozen=True)
class RankStart:
    """What ranks are started with."""

    config: DistributedConfig
    films: TrainingFilms
    run_id: str
    """Id of the MLflow run that all starts log to."""
    earlier: Job | None
    """The job that they go on with."""


def run_ranks(start: RankStart) -> JobEnd:
    """Start the ranks and wait for them, and up to `max_restarts` times more where that may help.

    Raises UserError where no launcher can start them, Interrupted where this process was told to stop.
    """
    restarts = 0
    while True:
        end = _run_once(start)
        if not end.may_recover or restarts == start.config.max_restarts:
            return end
        restarts += 1
        reason = end.reason or f"the ranks ended with exit code {end.code}"
        warn(f"{reason}; restart {restarts} of {start.config.max_restarts}")
        start = _next_start(start)


def _run_once(start: RankStart) -> JobEnd:
    config, hosts = start.config, parse_hosts(start.config.hosts)
    plan = plan_ranks(config, start.films)
    ranks = plan.batches.ranks
    command = [sys.executable, "-m", "radflow", "distributed", *command_line(_of_ranks(config, ranks, start.earlier))]
    job = RankJob(
        command,
        ranks,
        hosts,
        config.told_threads,
        variables={"MLFLOW_RUN_ID": start.run_id},
        stall_seconds=config.stall_seconds,
        ssh_agent=config.ssh_agent,
        interface=config.interface,
        sums_within_layers=plan.recipe.norm == "sync_batch",
    )
    launch = prepare_launch(config.launcher, job)
    say(f"starting {launch}")
    return launch.run()


def _next_start(start: RankStart) -> RankStart:
    """The same training from its last checkpoint, without the hosts that are gone."""
    resume_run(start.run_id)
    earlier = job_of_run(Path(start.config.out), start.run_id)
    return replace(start, config=_without_lost_hosts(start.config), earlier=earlier or start.earlier)


def _without_lost_hosts(config: DistributedConfig) -> DistributedConfig:
    """The hosts that still answer; with a fixed number of ranks, all of them."""
    hosts = parse_hosts(config.hosts)
    if config.np != "auto" or is_local(hosts):
        return config
    left = [host for host in hosts if answers(host, config.ssh_agent)]
    lost = [host.name for host in hosts if host not in left]
    if not left or not lost:
        return config
    warn(f"{', '.join(lost)} cannot be reached; going on without")
    return replace(config, hosts=",".join(f"{host.name}:{host.slots}" for host in left))


def _of_ranks(config: DistributedConfig, ranks: int, earlier: Job | None) -> DistributedConfig:
    """What ranks are told: their number, and the job that they resume with the normalisation that it began with."""
    config = replace(config, np=ranks, resume=str(earlier.folder) if earlier else NEW_JOB)
    if earlier and config.model.norm == "auto":
        return replace(config, model=replace(config.model, norm=earlier.settings["norm"]))
    return config
