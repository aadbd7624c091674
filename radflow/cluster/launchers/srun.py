"""Slurm's srun: ranks on the nodes of the allocation that this process runs in."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence

from radflow.cluster.hosts import is_local
from radflow.cluster.launchers.base import NotForThisJobError, RankJob, Start
from radflow.cluster.launchers.process import find_program
from radflow.cluster.slurm import allocated_nodes
from radflow.errors import UserError

_TRY_SECONDS = 60


def srun(job: RankJob) -> Start:
    """Start `job` by srun.

    Raises NotForThisJobError for hosts that are not an allocation's, UserError where PMIx does not work.
    """
    nodes = allocated_nodes()
    others = [host.name for host in job.hosts if host.name not in nodes]
    if is_local(job.hosts) or others:
        raise NotForThisJobError("launcher=srun starts ranks on the nodes of a Slurm allocation of several nodes only")
    nodes_of_job = [f"--nodes={len(job.hosts)}", f"--nodelist={','.join(host.name for host in job.hosts)}"]
    step = [find_program("srun"), "--mpi=pmix", "--overlap", *nodes_of_job]
    _check_pmix([*step, f"--ntasks={len(job.hosts)}", "true"])
    most = max(host.slots for host in job.hosts)
    line = [*step, "--kill-on-bad-exit=1", "--unbuffered"]
    line += [f"--ntasks={job.ranks}", f"--ntasks-per-node={most}", "--distribution=block"]
    # Each rank shares out the cores of its node itself, and must see them all.
    return Start([*line, "--cpu-bind=none"], signal.SIGUSR1)


def _check_pmix(step: Sequence[str]) -> None:
    """Raise UserError unless a step that does nothing ends well: what `srun --mpi=list` names need not work."""
    try:
        tried = subprocess.run(step, capture_output=True, text=True, check=False, timeout=_TRY_SECONDS)
    except subprocess.TimeoutExpired:
        raise UserError(f"`srun --mpi=pmix` did not start anything in {_TRY_SECONDS} s") from None
    if tried.returncode:
        said = tried.stderr.strip().partition("\n")[0]
        raise UserError(f"`srun --mpi=pmix` does not start tasks on these nodes ({said})")
