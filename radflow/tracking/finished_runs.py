"""Runs that are over, as MLflow keeps them: what they were given, what they measured, and their files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from radflow.errors import UserError
from radflow.tracking.spool import root_cause

_logger = logging.getLogger(__name__)

Points = list[tuple[int, float]]
"""Steps and values of a metric."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that has finished."""

    run_id: str
    name: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    """The last value of each."""

    @property
    def label(self) -> str:
        """Name and beginning of the id, as tables show it."""
        return f"{self.name} ({self.run_id[:8]})"


def finished_run(run_id: str) -> FinishedRun:
    """Look a run up by its id; raises UserError unless it is there and has finished."""
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        raise UserError(
            f"run {run_id} is not a run of this MLflow ({root_cause(error)}); give its 32 digits"
        ) from error
    if run.info.lifecycle_stage != "active" or run.info.status != "FINISHED":
        raise UserError(f"run {run_id} is {run.info.status.lower()}, expected one that has finished")
    return _finished(run)


def finished_runs_with(tags: Mapping[str, str]) -> list[FinishedRun]:
    """All runs that have finished and have these tags, the newest first."""
    client = MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    found, page = [], ""
    while True:
        runs = client.search_runs(
            experiments, f"{wanted} and status = 'FINISHED'", order_by=["start_time DESC"], page_token=page or None
        )
        found += [_finished(run) for run in runs]
        page = runs.token
        if not page:
            return found


def _finished(run: Run) -> FinishedRun:
    return FinishedRun(run.info.run_id, str(run.info.run_name), run.data.params, run.data.tags, run.data.metrics)


def tag_run(run_id: str, tags: Mapping[str, object]) -> None:
    """Tag a run that another process owned; if MLflow does not answer, that costs a warning."""
    client = MlflowClient()
    try:
        for name, value in tags.items():
            client.set_tag(run_id, name, value)
    except MlflowException as error:
        _logger.warning("run %s could not be tagged: %s", run_id, error)


def metric_by_step(run_id: str, key: str) -> Points:
    """All values of a metric in the order of their steps; none where the run has no such metric."""
    points = MlflowClient().get_metric_history(run_id, key)
    return sorted((point.step, point.value) for point in points)


def fetch_artifact(run_id: str, path: str, folder: Path) -> Path:
    """Copy a file of a run into a folder; raises UserError where the run has no such file."""
    try:
        return Path(MlflowClient().download_artifacts(run_id, path, str(folder)))
    except (MlflowException, OSError) as error:
        raise UserError(f"run {run_id[:8]} has no {path}; a training or an evaluation of this radflow has") from error
