"""Slurm's srun: ranks on the nodes of the allocation that this process runs in."""

from __future__ import annotations

import signal
import subprocess

from radflow.cluster.hosts import is_local
from radflow.cluster.launchers.base import NotForThisJobError, RankJob, Start
from radflow.cluster.launchers.process import find_program
from radflow.cluster.slurm import allocated_nodes
from radflow.errors import UserError


def srun(job: RankJob) -> Start:
    """Start `job` by srun.

    Raises NotForThisJobError for hosts that are not an allocation's, UserError where Slurm has no PMIx.
    """
    nodes = allocated_nodes()
    others = [host.name for host in job.hosts if host.name not in nodes]
    if is_local(job.hosts) or others:
        raise NotForThisJobError("launcher=srun starts ranks on the nodes of a Slurm allocation of several nodes only")
    program = find_program("srun")
    kinds = subprocess.run([program, "--mpi=list"], capture_output=True, text=True, check=False)
    if "pmix" not in kinds.stdout + kinds.stderr:
        raise UserError("this Slurm was built without PMIx (`srun --mpi=list`), so launcher=srun cannot join its tasks")
    line = [program, "--mpi=pmix", "--kill-on-bad-exit=1", "--unbuffered", "--overlap"]
    line += [f"--nodes={len(job.hosts)}", f"--nodelist={','.join(host.name for host in job.hosts)}"]
    line += [
        f"--ntasks={job.ranks}",
        "--distribution=block",
        f"--ntasks-per-node={max(host.slots for host in job.hosts)}",
    ]
    # Each rank shares out the cores of its node itself, and must see them all.
    return Start([*line, "--cpu-bind=none"], signal.SIGUSR1)
