"""The folder of a job: its settings, its checkpoints and its predictions; and which one to resume."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radflow.errors import UserError
from radflow.files import atomic_file, read_json
from radflow.terminal import warn
from radflow.training.history import HISTORY_FILE, read_epochs

JOB_FILE = "job.json"
PREDICTIONS_FILE = "predictions.parquet"
FINISHED_FILE = "finished"
NEW_JOB, AUTO = "none", "auto"

# Where and how fast a job runs, not what it computes; batches are compared by the global batch that comes of them.
EXECUTION_SETTINGS = {
    *("out", "config", "resume", "checkpoint_minutes"),
    *("threads", "np", "hosts", "launcher", "ssh_agent", "interface", "stall_seconds", "max_restarts", "timeline"),
}
IRRELEVANT_SETTINGS = EXECUTION_SETTINGS | {"data", "bz", "gbz", "lbz", "ranks", "local_batch", "micro_steps"}
# What the speed of a job depends on.
SPEED_SETTINGS = ("data_digest", "arch", "norm", "precision", "threads", "hosts", "ranks", "local_batch")
# What a checkpoint fits to: the shapes of weights, the optimiser's variables, and which film comes at which step.
CHECKPOINT_SETTINGS = (
    *("data_digest", "arch", "norm", "optimizer", "ema", "body_lr_factor", "frozen_epochs"),
    *("global_batch", "gbz_schedule", "seed"),
)


@dataclass(frozen=True)
class Job:
    """A job that has a folder."""

    folder: Path
    run_id: str
    """Id of its MLflow run."""
    settings: dict[str, Any]
    """Settings by flag, resolved, with what was derived from them (`TrainingPlan.settings`)."""

    @property
    def is_finished(self) -> bool:
        """Whether it has done all that it had to do."""
        return (self.folder / FINISHED_FILE).exists()

    def write(self) -> None:
        """Write it into its folder."""
        with atomic_file(self.folder / JOB_FILE) as temporary:
            temporary.write_text(json.dumps({"run_id": self.run_id, "settings": self.settings}, indent=1))


def job_of_run(out: Path, run_id: str) -> Job | None:
    """The job in `out` with this MLflow run, if it has begun."""
    return next((job for job in _readable_jobs(out) if job.run_id == run_id), None)


def make_job_folder(out: Path, name: str) -> Path:
    """Make and return a new folder in `out`, named by time and `name`."""
    folder = out / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    for attempt in range(1, 1000):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            folder = folder.with_name(f"{folder.name}-{attempt}")
        else:
            return folder
    raise FileExistsError(folder)


def read_job(folder: Path) -> Job:
    """Read the job of a folder; raises UserError when it is none."""
    try:
        content = read_json(folder / JOB_FILE)
        job = Job(folder, content["run_id"], content["settings"])
        if not isinstance(job.run_id, str) or not isinstance(job.settings, dict):
            raise ValueError(f"{JOB_FILE} holds no run and settings")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"resume={folder} is not the folder of a training job ({error}); give one that `train` or `distributed` "
            "made, auto or none"
        ) from error
    return job


def job_to_resume(settings: Mapping[str, Any]) -> Job | None:
    """The job that `resume` of these settings names; None where a new one is to start.

    `auto` is the newest unfinished job in `out` with the same settings, whatever its ranks, threads and hosts.

    Raises UserError when a folder is named that holds no job, or one that these settings do not fit.
    """
    resume = settings["resume"]
    if resume == NEW_JOB:
        return None
    if resume == AUTO:
        jobs = _readable_jobs(Path(settings["out"]))
        wanted = _comparable_settings(settings)
        same = (job for job in jobs if not job.is_finished and _comparable_settings(job.settings) == wanted)
        return next(same, None)
    job = read_job(Path(resume))
    given, expected = _comparable_settings(settings), _comparable_settings(job.settings)
    for name in CHECKPOINT_SETTINGS:
        if given.get(name) != expected.get(name):
            raise UserError(
                f"resume={resume} was started with {name}={expected.get(name)}, not {given.get(name)}; "
                "give the same, or resume=none"
            )
    return job


@dataclass(frozen=True)
class MeasuredSpeed:
    """How fast an earlier job trained."""

    images_per_second: float
    """Speed of all ranks together in the last epoch."""
    folder: Path


def earlier_speed(out: Path, settings: Mapping[str, Any]) -> MeasuredSpeed | None:
    """The speed of the newest job in `out` on the same data, with the same network and ranks, if there is one."""
    for job in _readable_jobs(out):
        speeds = [epoch.get("throughput/images_per_second") for epoch in read_epochs(job.folder / HISTORY_FILE)]
        known = [speed for speed in speeds if speed]
        if known and all(job.settings.get(name) == settings.get(name) for name in SPEED_SETTINGS):
            return MeasuredSpeed(known[-1], job.folder)
    return None


def mark_finished(folder: Path) -> None:
    """Say in the folder of a job that it has nothing left to do; to be called last."""
    (folder / FINISHED_FILE).touch()


def _readable_jobs(out: Path) -> Iterator[Job]:
    """The jobs in `out`, newest first; one whose file is damaged costs a warning, not the others."""
    for path in sorted(out.glob(f"*/{JOB_FILE}"), reverse=True):
        try:
            yield read_job(path.parent)
        except UserError as error:
            warn(f"{error}")


def _comparable_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in settings.items() if name not in IRRELEVANT_SETTINGS}
    # The same weights, and which of the two `auto` takes depends on the ranks.
    return told | {"norm": str(told.get("norm")).removeprefix("sync_")}
