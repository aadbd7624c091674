"""Saved models as MLflow has them: a LoggedModel of a run, made of a folder that may have waited in the spool."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, Metric
from mlflow.models import Model

from radflow.files import sha256_file
from radflow.tracking.spool import RunAddress

KERAS_FILE = "data/model.keras"
"""Place of the Keras model in a model's folder, as MLflow has it."""
KERAS_TAG = "radflow.keras_sha256"
"""Tag of a LoggedModel with the hash of that file, by which a copy of the file is recognised."""
_UPLOAD_TAG = "radflow.upload"


@dataclass(frozen=True)
class ModelDescription:
    """What is said about a model beside its files.

    `name` is the model's name within the run; `points` (key, value, timestamp in milliseconds, step) and `params` are
    shown with it; `upload` is an unused word that names this upload: repeated, it makes no second model.
    """

    name: str
    points: list[tuple[str, float, int, int]]
    params: dict[str, str]
    upload: str = field(default_factory=lambda: uuid.uuid4().hex)


def publish_model(client: MlflowClient, address: RunAddress, folder: Path, description: ModelDescription) -> str:
    """Make a LoggedModel of a saved MLflow model folder and return its URI, `models:/m-...`.

    `mlflow.tensorflow.log_model` does the same from a live model only, and runs it to validate the example. From a
    folder, a model can wait in the spool.
    """
    experiment_id = client.get_run(address.run_id).info.experiment_id
    logged = _find_upload(client, experiment_id, description.upload) or client.create_logged_model(
        experiment_id,
        name=description.name,
        source_run_id=address.run_id,
        params=description.params,
        tags={_UPLOAD_TAG: description.upload, KERAS_TAG: sha256_file(folder / KERAS_FILE)},
        model_type="keras",
    )
    client.log_outputs(address.run_id, models=[LoggedModelOutput(logged.model_id, step=0)])
    _write_identity(folder, logged, address.run_id)
    client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    if description.points:
        metrics = [
            Metric(key, value, timestamp, step, model_id=logged.model_id, run_id=address.run_id)
            for key, value, timestamp, step in description.points
        ]
        client.log_batch(address.run_id, metrics=metrics)
    return f"models:/{logged.model_id}"


def _find_upload(client: MlflowClient, experiment_id: str, upload: str) -> LoggedModel | None:
    found = client.search_logged_models(
        [experiment_id], filter_string=f"tags.`{_UPLOAD_TAG}` = '{upload}'", max_results=1
    )
    return found[0] if found else None


def _write_identity(folder: Path, logged: LoggedModel, run_id: str) -> None:
    """Tell the saved MLmodel file which model it is, as MLflow's own log_model does."""
    description = Model.load(str(folder))
    description.model_id = description.model_uuid = logged.model_id
    description.run_id = run_id
    description.artifact_path = logged.artifact_location
    description.save(str(folder / "MLmodel"))
