"""Open MPI's mpirun: ranks on this machine, and by ssh on others."""

from __future__ import annotations

import math
import os
import signal

from radflow.cluster.hosts import is_local
from radflow.cluster.launchers.base import RankJob, Start
from radflow.cluster.launchers.process import find_program
from radflow.cpu import available_cores, is_pinned

PASSED_ON = ("MLFLOW_", "RADFLOW_", "AWS_", "HOROVOD_")
"""Beginnings of the names of settings that ranks on other machines need too."""


def mpirun(job: RankJob) -> Start:
    """Start `job` by mpirun; raises UserError where it is not installed."""
    line = [find_program("mpirun"), "-np", str(job.ranks)]
    # Horovod's background thread polls MPI: without yielding it takes the cores that the ranks compute on.
    line += ["--mca", "mpi_yield_when_idle", "1"]
    # Ranks that lose a connection would abort before mpirun has noticed which rank or host is gone.
    line += ["--mca", "opal_abort_delay", "3"]
    line += ["--host", ",".join(f"{host.name}:{host.slots}" for host in job.hosts)]
    line += _binding(job)
    line += _network(job)
    exported = [*job.environment, *(name for name in os.environ if name.startswith(PASSED_ON))]
    for name in sorted({*exported, "PATH", "PYTHONPATH"} & {*job.environment, *os.environ}):
        line += ["-x", name]
    # On SIGTERM mpirun kills the ranks within a second, too soon for a checkpoint; SIGUSR1 it hands on to them.
    return Start(line, signal.SIGUSR1)


def _network(job: RankJob) -> list[str]:
    """Flags for the way to other hosts: of the ranks, and of the daemons that start them."""
    daemons: dict[str, object] = {}
    if job.ssh_agent:
        daemons["plm_ssh_agent"] = job.ssh_agent
    if job.interface:
        daemons["prte_if_include"] = job.interface
    if job.stall_seconds and not is_local(job.hosts):
        # A daemon whose host is cut off hears nothing; by default it would hold on for eight minutes.
        daemons["oob_tcp_keepalive_time"] = math.ceil(job.stall_seconds / 4)
        daemons["oob_tcp_keepalive_intvl"] = math.ceil(job.stall_seconds / 12)
        daemons["oob_tcp_keepalive_probes"] = 3
    ranks = {"btl_tcp_if_include": job.interface} if job.interface else {}
    flags = [("--prtemca", name, str(value)) for name, value in daemons.items()]
    flags += [("--mca", name, value) for name, value in ranks.items()]
    return [word for flag in flags for word in flag]


def _binding(job: RankJob) -> list[str]:
    """Flags that bind ranks to cores of their own where they fill this machine.

    mpirun counts from the machine's first core on, whatever else runs there: two jobs that each take some of the cores,
    or are pinned to some, would be bound to the same ones.
    """
    fills_machine = job.ranks * job.rank_threads == available_cores() and is_local(job.hosts)
    if fills_machine and not is_pinned():
        # Hardware threads, because that is what `available_cores` counts; other machines' cores are not known here.
        return ["--map-by", f"slot:PE={job.rank_threads}:HWTCPUS", "--bind-to", "hwthread"]
    return ["--bind-to", "none"]
