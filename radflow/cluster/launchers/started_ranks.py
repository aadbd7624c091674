"""Ranks that were started already, by a scheduler or by one of the launchers, and what their environment says."""

from __future__ import annotations

import os

from radflow.cluster.slurm import per_node
from radflow.errors import UserError

RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "HOROVOD_RANK")
"""Any of these in the environment says that this process was started as one of several ranks."""

LAUNCHED_VARIABLE = "RADFLOW_LAUNCHED"
"""Variable of the environment of ranks that one of the launchers has started."""


def is_rank() -> bool:
    """Whether this process is a rank already, started by mpirun, srun, an MPIJob or Horovod's launcher.

    The shell of `srun --pty bash` is the only task of its step, and what is typed there is no rank, although it
    inherits PMIX_RANK.
    """
    is_only_task = os.environ.get("SLURM_STEP_NUM_TASKS") == "1"
    return bool(found_ranks()) and not (is_only_task and found_ranks() == "PMIX_RANK")


def found_ranks() -> str:
    """Names of the variables by which a launcher has told this process its rank; '' where there is none."""
    return ", ".join(variable for variable in RANK_VARIABLES if variable in os.environ)


def rank_number() -> int:
    """The rank of this process, as its launcher has told it."""
    return int(os.environ[next(variable for variable in RANK_VARIABLES if variable in os.environ)])


def was_launched() -> bool:
    """Whether one of the launchers has started this rank, and not a scheduler."""
    return LAUNCHED_VARIABLE in os.environ


def ranks_on_this_node() -> int:
    """How many ranks the scheduler has put on this machine; 1 where it does not say."""
    for variable in ("OMPI_COMM_WORLD_LOCAL_SIZE", "HOROVOD_LOCAL_SIZE"):
        if os.environ.get(variable, "").isdecimal():
            return int(os.environ[variable])
    tasks = per_node(os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    node = int(os.environ.get("SLURM_NODEID", "0"))
    return tasks[node] if node < len(tasks) else 1


def rank_on_this_node() -> int:
    """The number of this rank among those of its machine, from 0; 0 where the scheduler does not say."""
    for variable in ("OMPI_COMM_WORLD_LOCAL_RANK", "HOROVOD_LOCAL_RANK", "SLURM_LOCALID"):
        if os.environ.get(variable, "").isdecimal():
            return int(os.environ[variable])
    return 0


def check_scheduler() -> None:
    """Raise UserError in a task of srun that was not told that it is a rank: each task would start a job of its own."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if not is_rank() and tasks.isdecimal() and int(tasks) > 1:
        raise UserError(
            f"srun started {tasks} tasks that do not know each other; start them with `srun --mpi=pmix`, "
            "or start one task and let it launch the ranks"
        )
