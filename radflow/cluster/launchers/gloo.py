"""Horovod's Gloo launcher: ranks on this machine without MPI."""

from __future__ import annotations

import signal

from radflow.cluster.hosts import is_local
from radflow.cluster.launchers.base import RankJob, Start
from radflow.cluster.launchers.process import find_program
from radflow.errors import UserError


def gloo(job: RankJob) -> Start:
    """Start `job` by `horovodrun --gloo`; raises UserError where it is not installed or other machines are named."""
    if not is_local(job.hosts):
        raise UserError("launcher=gloo starts ranks on this machine only; use launcher=mpirun with hosts")
    line = [find_program("horovodrun"), "--gloo", "-np", str(job.ranks), "-H", f"localhost:{job.ranks}"]
    return Start(line, signal.SIGTERM, shows_environment=True)
