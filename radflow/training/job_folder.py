"""The folder of a job: what it was told, its checkpoints and its predictions; and which one to go on with."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radflow.cluster.batch_plan import BatchPlan
from radflow.config import flatten
from radflow.data.dataset import Dataset
from radflow.errors import UserError
from radflow.files import atomic_file
from radflow.training.config import TrainingConfig

JOB_FILE = "job.json"
PREDICTIONS_FILE = "predictions.parquet"
ANEW, AUTO = "none", "auto"

# Where and how fast a job runs, not what it computes; batches are compared by the global batch that comes of them.
RUNNING = {"out", "config", "resume", "checkpoint_minutes", "threads", "np", "hosts", "launcher"}
INCIDENTAL = RUNNING | {"data", "bz", "gbz", "lbz"}
# What a checkpoint fits to: the shapes of weights, the optimiser's variables, and which film comes at which step.
BINDING = ("data_digest", "arch", "norm", "optimizer", "body_lr", "frozen_epochs", "global_batch", "seed")


@dataclass(frozen=True)
class Job:
    """A job that has a folder."""

    folder: Path
    run_id: str
    """Of its MLflow run."""
    settings: dict[str, Any]
    """By flag, with the digest of the data set and the global batch."""

    @property
    def is_finished(self) -> bool:
        """Whether it has predicted the test films, its last act."""
        return (self.folder / PREDICTIONS_FILE).exists()

    def write(self) -> None:
        """Write it into its folder."""
        with atomic_file(self.folder / JOB_FILE) as temporary:
            temporary.write_text(json.dumps({"run_id": self.run_id, "settings": self.settings}, indent=1))


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
        content = json.loads((folder / JOB_FILE).read_text())
        return Job(folder, content["run_id"], content["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"resume={folder} is not the folder of a training job ({error}); give one that `train` or `distributed` "
            "made, auto or none"
        ) from error


def job_settings(config: TrainingConfig, dataset: Dataset, plan: BatchPlan) -> dict[str, Any]:
    """What a job is told, and what it works on."""
    resolved = {"norm": config.model.chosen_norm, "global_batch": plan.global_batch, "data_digest": dataset.digest}
    return flatten(config) | resolved


def job_to_resume(config: TrainingConfig, dataset: Dataset, plan: BatchPlan) -> Job | None:
    """The job that `config.resume` names; None where a new one is to start.

    `auto` is the newest unfinished job in `out` that was told the same, whatever its ranks, threads and hosts.

    Raises UserError when a folder is named that holds no job, or one that these settings do not fit.
    """
    settings = job_settings(config, dataset, plan)
    if config.resume == ANEW:
        return None
    if config.resume == AUTO:
        folders = sorted((path.parent for path in Path(config.out).glob(f"*/{JOB_FILE}")), reverse=True)
        jobs = (read_job(folder) for folder in folders)
        same = (job for job in jobs if not job.is_finished and _told(job.settings) == _told(settings))
        return next(same, None)
    job = read_job(Path(config.resume))
    for name in BINDING:
        if job.settings.get(name) != settings[name]:
            raise UserError(
                f"resume={config.resume} was started with {name}={job.settings.get(name)}, not {settings[name]}; "
                "give the same, or resume=none"
            )
    return job


def _told(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in INCIDENTAL}
