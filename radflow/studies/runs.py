"""The MLflow runs of studies: cells are flat siblings with tags, since the UI collapses nested runs."""

from __future__ import annotations

import logging

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

KIND_TAG, KIND = "radflow.kind", "study"
CELL_TAG, SEED_TAG, RATE_TAG = "radflow.cell", "radflow.seed", "radflow.rate"
NAME_TAG, SCALE_TAG = "radflow.experiment", "radflow.scale"

_logger = logging.getLogger(__name__)


def mark_as_cell(run_id: str, study: str, cell: str) -> None:
    """Say in a cell's run that a study has it, beside others that may have it too; an outage costs a warning."""
    if not run_id:
        return
    try:
        MlflowClient().set_tag(run_id, f"radflow.study.{study}", cell)
    except MlflowException as error:
        _logger.warning("run %s could not be tagged: %s", run_id, error)
