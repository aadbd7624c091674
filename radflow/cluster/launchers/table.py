"""The launchers, the choice among them, and the start of a job."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from radflow.cluster.launchers.base import Launcher, NotForThisJobError, RankJob, Start
from radflow.cluster.launchers.gloo import gloo
from radflow.cluster.launchers.job_watch import JobEnd, JobWatch
from radflow.cluster.launchers.mpirun import mpirun
from radflow.cluster.launchers.process import run_until_stopped
from radflow.cluster.launchers.secrets_file import secrets_in_file
from radflow.cluster.launchers.srun import srun
from radflow.errors import Interrupted, UserError
from radflow.files import check_temporary_folder

LAUNCHERS: dict[str, Launcher] = {"srun": srun, "mpirun": mpirun, "gloo": gloo}
"""Launchers by the name that `launcher` has, in the order in which `auto` asks them.

Ranks that are running already need none: `started_ranks.is_rank` finds that nothing is left to launch.
"""

if TYPE_CHECKING:
    LauncherName = str
else:  # the command line takes these names and lists them
    LauncherName = Literal[("auto", *LAUNCHERS)]

TEMPORARY_BYTES = 4 * 2**20
"""Room that Open MPI has to find in TMPDIR: it maps files there, and dies by SIGBUS where they cannot be filled."""


@dataclass(frozen=True)
class Launch:
    """A job and the launcher that was taken for it."""

    launcher: str
    why: str
    """Why `auto` took it; empty where it was given by name."""
    job: RankJob
    start: Start

    def __str__(self) -> str:
        """Words for the terminal, such as `2 ranks with mpirun (auto: the first that can start them)`."""
        return f"{self.job.ranks} ranks with {self.launcher}{f' (auto: {self.why})' if self.why else ''}"

    def run(self) -> JobEnd:
        """Start the ranks, wait for them and tell how they ended.

        Raises Interrupted where this process or the ranks alone were told to stop by a signal; they have ended.
        """
        # What a scheduler has told this process as the only task of a step is not true of its ranks.
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PMIX_", "PMI_"))}
        environment = {**own, **self.job.environment}
        line = [*self.start.line, *self.job.command]
        watch = JobWatch(self.job.ranks, self.job.stall_seconds)
        hidden = secrets_in_file if self.start.shows_environment else nullcontext
        with hidden(environment) as harmless:
            end = watch.end(run_until_stopped(line, harmless, self.start.stop_signal, watch))
        sys.stderr.write(end.messages)
        if end.stopped_by:
            raise Interrupted(end.stopped_by)
        return end


def prepare_launch(launcher: str, job: RankJob) -> Launch:
    """The launch of `job` by the launcher of this name; by `auto`, the first that can start it.

    Raises UserError where the launcher, or each of them, cannot start the job, or TMPDIR is full.
    """
    check_temporary_folder(TEMPORARY_BYTES)
    if launcher != "auto":
        return Launch(launcher, "", job, LAUNCHERS[launcher](job))
    refusals: list[str] = []
    for name, start_by in LAUNCHERS.items():
        try:
            start = start_by(job)
        except NotForThisJobError:
            continue
        except UserError as error:
            refusals.append(f"{name} cannot: {error}")
        else:
            return Launch(name, "; ".join(refusals) or "the first that can start them", job, start)
    raise UserError("; ".join(refusals))
