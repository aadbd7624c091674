"""Classifiers found by their URI in MLflow, or as folders, and loaded in Keras' safe mode."""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from radflow.errors import UserError
from radflow.files import sha256_file
from radflow.inference.description import Description, NotReproducedError
from radflow.secrets import hide_secrets
from radflow.terminal import import_tensorflow
from radflow.tracking.logged_model import KERAS_FILE, KERAS_TAG
from radflow.tracking.spool import root_cause

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_URI = re.compile(r"[a-z0-9+-]+:/")
_ALIAS = re.compile(r"models:/([^/@]+)@([^/@]+)")


@dataclass(frozen=True)
class LoadedClassifier:
    """A Keras model with what it says about itself."""

    model: keras.Model
    description: Description

    @property
    def findings(self) -> tuple[str, ...]:
        """Names of the outputs, in their order."""
        return self.description.findings

    @property
    def image_size(self) -> int:
        """Height and width of the films that it takes, in pixels."""
        return int(self.model.input_shape[1])

    def predict(self, films: np.ndarray) -> np.ndarray:
        """Probabilities float32 [n, findings] of films uint8 [n, size, size]."""
        return self._graph(films).numpy()

    @cached_property
    def _graph(self) -> Callable[[np.ndarray], tf.Tensor]:
        from radflow.inference.graph import inference_graph  # TensorFlow
        from radflow.models.twin import twin_of

        return inference_graph(twin_of(self.model))


def load_classifier(uri: str) -> LoadedClassifier:
    """Load the classifier behind an MLflow model URI or folder, in Keras' safe mode and without pickle.

    `uri` is `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `models:/m-ID`, `runs:/RUN_ID/NAME`, another artefact URI, or
    a local MLflow model folder. Layers of radflow's own must be imported (and so registered with Keras) before.

    Raises UserError if there is no such model, if it is not one that radflow's `train` logs, or if it does not give its
    golden film the probabilities that it gave when it was saved.
    """
    with tempfile.TemporaryDirectory(prefix="radflow-model-") as temporary:
        folder = _local_folder(uri, temporary)
        model = _load_keras_file(folder, uri)
        try:
            description = Description.read(folder)
        except (OSError, ValueError) as error:
            raise UserError(
                f"model {uri} does not describe itself ({root_cause(error)}); expected a model as radflow's `train` "
                "logs it"
            ) from error
    loaded = LoadedClassifier(model, description)
    try:
        description.check(loaded.predict)
    except NotReproducedError as error:
        raise UserError(f"model {uri} cannot be trusted: {error}") from error
    return loaded


def names_model(text: str) -> bool:
    """Whether a text is an MLflow model URI, or the path of a folder as which MLflow saves a model."""
    return bool(_URI.match(text)) or (Path(text) / "MLmodel").is_file()


def without_alias(uri: str) -> str:
    """The URI of the version that `models:/NAME@ALIAS` stands for now; another URI as it is."""
    alias = _ALIAS.fullmatch(uri)
    if not alias:
        return uri
    try:
        version = MlflowClient().get_model_version_by_alias(*alias.groups())
    except MlflowException as error:
        raise UserError(_no_such_model(uri, error)) from error
    return f"models:/{version.name}/{version.version}"


def model_metadata(uri: str) -> dict[str, str]:
    """What was said of a model when it was logged, without its weights; raises UserError as `load_classifier` does."""
    described = read_model_file(uri, "MLmodel")
    if described is None:
        raise UserError(f"{uri} holds no MLmodel; expected a model as radflow's `train` logs it")
    return {name: str(value) for name, value in (yaml.safe_load(described).get("metadata") or {}).items()}


@contextmanager
def keras_file(uri: str) -> Iterator[Path]:
    """The .keras file of a model, for the block; raises UserError as `load_classifier` does."""
    with tempfile.TemporaryDirectory(prefix="radflow-model-") as temporary:
        yield _keras_file_in(_local_folder(uri, temporary), uri)


def read_model_file(uri: str, name: str) -> str | None:
    """Text of a file in a model's folder, fetched without the weights; None where the model has no such file.

    Raises UserError as `load_classifier` does.
    """
    if Path(uri).is_dir():
        file = Path(uri) / name
        return file.read_text(encoding="utf-8") if file.is_file() else None
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        repository = get_artifact_repository(uri)
        if name not in [PurePosixPath(entry.path).name for entry in repository.list_artifacts("")]:
            return None
        with tempfile.TemporaryDirectory(prefix="radflow-model-") as temporary:
            return Path(repository.download_artifacts(name, temporary)).read_text(encoding="utf-8")
    except (MlflowException, OSError) as error:
        raise UserError(_no_such_model(uri, error)) from error


def model_of_file(file: Path) -> str | None:
    """URI of the model that a .keras file is of: that of the folder in which it lies, or one in MLflow with its bytes.

    None where there is none. Raises UserError where MLflow cannot be asked.
    """
    folder = file.resolve().parent.parent
    if (folder / "MLmodel").is_file() and file.resolve() == folder / KERAS_FILE:
        return str(folder)
    client = MlflowClient()
    same_bytes = f"tags.`{KERAS_TAG}` = '{sha256_file(file)}'"
    try:
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        found = client.search_logged_models(experiments, filter_string=same_bytes, max_results=1)
    except MlflowException as error:
        raise UserError(f"whose weights {file} holds cannot be asked of MLflow: {root_cause(error)}") from error
    return f"models:/{found[0].model_id}" if found else None


def _keras_file_in(folder: Path, uri: str) -> Path:
    file = folder / KERAS_FILE
    if not file.is_file():
        raise UserError(f"model {uri} holds no {KERAS_FILE}; expected a Keras model as radflow's `train` logs it")
    return file


def _load_keras_file(folder: Path, uri: str) -> keras.Model:
    file = _keras_file_in(folder, uri)
    import_tensorflow()
    import keras

    try:
        return keras.saving.load_model(file, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().partition("\n")[0][:300]
        raise UserError(f"model {uri} cannot be loaded: {reason}; it needs the radflow that saved it") from error


def _local_folder(uri: str, temporary: str) -> Path:
    """Find the model's folder on this machine: where it lies, or a copy in `temporary`."""
    if Path(uri).is_dir():
        return Path(uri)
    if not _URI.match(uri):
        raise UserError(
            f"model {uri!r} is neither a folder nor an MLflow model URI; expected models:/NAME@champion, "
            "models:/NAME/VERSION, models:/m-ID, runs:/RUN_ID/model or a folder"
        )
    import mlflow.artifacts

    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=temporary))
    except (MlflowException, OSError) as error:
        raise UserError(_no_such_model(uri, error)) from error


def _no_such_model(uri: str, error: Exception) -> str:
    alias = _ALIAS.fullmatch(uri)
    if alias and getattr(error, "error_code", "") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
        model, name = alias.groups()
        return f"no {name} of {model} yet; run `mlflow run . -e promote`, or name another model URI"
    return f"model {uri} cannot be fetched from {hide_secrets(MlflowClient().tracking_uri)}: {root_cause(error)}"
