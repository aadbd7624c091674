"""A training in a process and an MLflow run of its own: started, resumed, or found finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from radflow.errors import MISTAKE, JobError, UserError
from radflow.tracking.remembered_run import remember_run, remembered_run
from radflow.tracking.run import close_abandoned_run, create_run
from radflow.training.child_process import Epoch, follow_training
from radflow.training.job_folder import JOB_FILE, Job, read_job


@dataclass(frozen=True)
class OwnRun:
    """A training of a study."""

    title: str
    """What messages call it."""
    command: list[str]
    """See `training_command`; its `out` is `folder`, its `resume` is auto."""
    folder: Path
    """Folder of this training alone."""
    name: str
    """Name of its MLflow run."""
    tags: Mapping[str, str]

    @property
    def job(self) -> Job | None:
        """What it has come to: the finished job, or else the newest; None before the first."""
        jobs = [read_job(path.parent) for path in sorted(self.folder.glob(f"*/{JOB_FILE}"), reverse=True)]
        return next((job for job in jobs if job.is_finished), jobs[0] if jobs else None)

    def train(self, on_epoch: Callable[[Epoch], None] | None = None, on_poll: Callable[[], None] = lambda: None) -> Job:
        """Train to the end, in the run in which it was begun, and remove the checkpoints.

        `on_epoch` is called after each epoch, `on_poll` several times a second.

        Raises
        ------
        UserError
            The training was told something wrong; the message is its own.
        JobError
            It failed.
        """
        run_id = remembered_run(self.folder) or create_run(self.name, self.tags)
        remember_run(self.folder, run_id)  # before the training: whoever is killed before it begins leaves no run open

        def go_on(epoch: Epoch) -> bool:
            if on_epoch:
                on_epoch(epoch)
            return True

        try:
            ended = follow_training(self.command, self.folder, {"MLFLOW_RUN_ID": run_id}, go_on, on_poll)
        finally:
            close_abandoned_run(run_id, patience=30.0)
        if ended.code == MISTAKE:
            raise UserError(ended.last_line.removeprefix("error: "))
        job = self.job
        if ended.code or job is None or not job.is_finished:
            raise JobError(
                f"{self.title} ended with exit code {ended.code}: {ended.last_line}; its output is in {self.folder}"
            )
        for checkpoint in job.folder.glob("*.npz"):
            checkpoint.unlink()  # of no use once the model is logged
        return job
