"""Classifiers in MLflow: saved as `.keras` inside an MLflow model, logged as a LoggedModel, loaded in safe mode.

A model's folder has two of MLflow's flavours. `mlflow.tensorflow.load_model` gives the Keras model, from arrays to
probabilities. `mlflow.pyfunc.load_model`, and so `mlflow models serve`, runs registry/served_model.py, from the bytes
of films to a table.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import AnyType

from radflow.environment import installed_versions
from radflow.errors import UserError
from radflow.tracking.connection import without_password
from radflow.tracking.description import ABOVE_PREFIX, GOLDEN_FILM_FILE, Description, NotReproducedError
from radflow.tracking.spool import RunAddress, root_cause

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_UPLOAD_TAG = "radflow.upload"
_KERAS_FILE = "data/model.keras"
_URI = re.compile(r"[a-z0-9+-]+:/")
_ALIAS = re.compile(r"models:/([^/@]+)@([^/@]+)")

_RADFLOW = Path(__file__).parent.parent
_SERVED_CODE = _RADFLOW.parent / "registry" / "served_model.py"
_CARRIED_MODULES = ("data/images.py", "data/dicom.py", "tracking/description.py")
"""What the served code imports from radflow; models carry them as the package `radflow_served`."""

_SERVED_PACKAGES = ("pandas", "pillow", "isal", "pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg")

FINDINGS_PARAM = "findings"
"""The model param, and entry of its metadata, that names the outputs, joined by commas."""

THRESHOLDS_PARAM = "thresholds"
"""Likewise, the probability from which each finding counts as present; nan for one without."""


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


def log_keras_model(
    run_id: str,
    model: keras.Model,
    example: np.ndarray,
    name: str = "model",
    metrics: Mapping[str, float] | None = None,
    params: Mapping[str, object] | None = None,
) -> str:
    """Log a model as a LoggedModel of the run and return its URI, `models:/m-...`.

    Args:
        run_id: the run that produced the model.
        model: maps uint8 films [N, H, W] to probabilities, float32 [N, findings].
        example: one or more films, uint8 [N, H, W]; stored as input example, and its shape gives the signature.
        name: the model's name within the run: `runs:/<run_id>/<name>` finds it too.
        metrics: values that are shown with the model (keys of the metric table).
        params: values that are shown with the model.
    """
    client = MlflowClient()
    address = RunAddress(client.tracking_uri, run_id)
    now = int(time.time() * 1000)
    description = ModelDescription(
        name,
        points=[(key, float(value), now, 0) for key, value in (metrics or {}).items()],
        params={key: str(value) for key, value in (params or {}).items()},
    )
    with tempfile.TemporaryDirectory(prefix="radflow-model-") as temporary:
        folder = Path(temporary) / "model"
        save_keras_model(model, example, folder, description.params)
        return publish_model(client, address, folder, description)


def save_keras_model(
    model: keras.Model, example: np.ndarray, folder: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a model as an MLflow model folder with both flavours, without pickling anything.

    The first film of `example`, uint8 [N, size, size], and what the model gives for it now go along: a model that does
    not reproduce it is not loaded. `metadata` stays with the folder wherever it goes; its FINDINGS_PARAM and
    THRESHOLDS_PARAM say what the outputs mean. The requirements are given, since MLflow would else load and run the
    model in a second process to find them.

    Raises ValueError if `example` is not uint8 [N, size, size].
    """
    import mlflow.tensorflow

    if example.dtype != np.uint8 or example.ndim != 3 or example.shape[1] != example.shape[2]:
        raise ValueError(f"example is {example.dtype} {list(example.shape)}; expected uint8 films [N, size, size]")
    description = _describe(model, example[:1], metadata or {})
    with _registered_classes_hidden():
        mlflow.tensorflow.save_model(
            model,
            str(folder),
            signature=_keras_signature(model),
            pip_requirements=_requirements(),
            metadata=dict(metadata or {}),
        )
    description.write(folder)
    _add_served_flavour(folder, _signature(description.findings))


def _describe(model: keras.Model, golden_film: np.ndarray, metadata: Mapping[str, str]) -> Description:
    """What the folder says of the model; outputs without names are numbered."""
    outputs = model.output_shape[-1]
    named = metadata.get(FINDINGS_PARAM)
    findings = tuple(named.split(",")) if named else tuple(f"output_{number}" for number in range(outputs))
    thresholds = [float(value) for value in metadata.get(THRESHOLDS_PARAM, ",".join(["nan"] * outputs)).split(",")]
    if {len(findings), len(thresholds)} != {outputs}:
        raise ValueError(f"{len(findings)} findings, {len(thresholds)} thresholds; expected {outputs}, one an output")
    about = {name: value for name, value in metadata.items() if name not in (FINDINGS_PARAM, THRESHOLDS_PARAM)}
    return Description(
        findings,
        np.array(thresholds),
        golden_film[0],
        np.asarray(model(golden_film, training=False), np.float64)[0],
        {**about, **{f"version_{name}": version for name, version in installed_versions(("radflow",)).items()}},
    )


def _keras_signature(model: keras.Model) -> ModelSignature:
    """Of the Keras model itself, without which MLflow warns; the folder's is that of the served flavour."""
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, *model.input_shape[1:]))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, model.output_shape[-1]))]),
    )


def _signature(findings: tuple[str, ...]) -> ModelSignature:
    """Of the served flavour. A film may be anything to MLflow, so that the served code alone says what is wrong."""
    probabilities = [ColSpec(DataType.double, finding, required=False) for finding in findings]
    above = [ColSpec(DataType.boolean, ABOVE_PREFIX + finding, required=False) for finding in findings]
    return ModelSignature(
        inputs=Schema([ColSpec(AnyType(), "film", required=False)]),
        outputs=Schema(
            [
                ColSpec(DataType.long, "film"),
                *probabilities,
                *above,
                ColSpec(DataType.string, "error", required=False),
            ]
        ),
    )


def _add_served_flavour(folder: Path, signature: ModelSignature) -> None:
    """Make the served code, with its modules and an example, the pyfunc flavour of a TensorFlow model's folder."""
    import mlflow.pyfunc
    from mlflow.pyfunc.loaders import code_model

    carried = folder / "code" / "radflow_served"
    carried.mkdir(parents=True)
    for module in _CARRIED_MODULES:
        shutil.copyfile(_RADFLOW / module, carried / Path(module).name)
    shutil.copyfile(_SERVED_CODE, folder / _SERVED_CODE.name)
    described = Model.load(str(folder))
    environment = described.flavors[mlflow.pyfunc.FLAVOR_NAME][mlflow.pyfunc.ENV]
    mlflow.pyfunc.add_to_model(
        described,
        loader_module=code_model.__name__,
        model_code_path=_SERVED_CODE.name,
        code="code",
        conda_env=environment["conda"],
        python_env=environment["virtualenv"],
    )
    film = base64.b64encode((folder / GOLDEN_FILM_FILE).read_bytes()).decode("ascii")
    example = pd.DataFrame({"film": [film]})
    example.to_json(folder / "input_example.json", orient="split", index=False)
    served = {"dataframe_split": example.to_dict(orient="split", index=False)}
    (folder / "serving_input_example.json").write_text(json.dumps(served), encoding="utf-8")
    described.saved_input_example_info = {
        "artifact_path": "input_example.json",
        "serving_input_path": "serving_input_example.json",
        "type": "dataframe",
        "pandas_orient": "split",
    }
    described.signature = signature
    described.save(str(folder / "MLmodel"))


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
        tags={_UPLOAD_TAG: description.upload},
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
        """The model as one graph: called layer by layer, DenseNet-121 spends its time between the layers."""
        import tensorflow as tf

        films = tf.TensorSpec(self.model.input_shape, tf.uint8)
        return tf.function(lambda films: self.model(films, training=False), input_signature=[films], jit_compile=False)


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
    import mlflow.models

    try:
        info = mlflow.models.get_model_info(uri)
    except (MlflowException, OSError) as error:
        raise UserError(_no_such_model(uri, error)) from error
    return {name: str(value) for name, value in (info.metadata or {}).items()}


@contextmanager
def keras_file(uri: str) -> Iterator[Path]:
    """The .keras file of a model, for the block; raises UserError as `load_classifier` does."""
    with tempfile.TemporaryDirectory(prefix="radflow-model-") as temporary:
        yield _keras_file_in(_local_folder(uri, temporary), uri)


def load_keras_model(uri: str) -> keras.Model:
    """Load only the Keras model, as `load_classifier` does."""
    with tempfile.TemporaryDirectory(prefix="radflow-model-") as temporary:
        return _load_keras_file(_local_folder(uri, temporary), uri)


def _keras_file_in(folder: Path, uri: str) -> Path:
    file = folder / _KERAS_FILE
    if not file.is_file():
        raise UserError(f"model {uri} holds no {_KERAS_FILE}; expected a Keras model as radflow's `train` logs it")
    return file


def _load_keras_file(folder: Path, uri: str) -> keras.Model:
    import keras

    file = _keras_file_in(folder, uri)
    try:
        return keras.saving.load_model(file, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError) as error:
        reason = str(error).strip().partition("\n")[0][:300]
        raise UserError(f"model {uri} cannot be loaded: {reason}; it needs the radflow that saved it") from error


def _requirements() -> list[str]:
    """List what serving needs, pinned to what is installed (GPU machines have `tensorflow`, others its CPU wheel)."""
    packages = installed_versions(("mlflow", "tensorflow-cpu", "tensorflow", "keras", "numpy", *_SERVED_PACKAGES))
    return [f"{package}=={version}" for package, version in packages.items()]


@contextmanager
def _registered_classes_hidden() -> Iterator[None]:
    """Hide Keras' global registry of classes: what MLflow finds there it would pickle beside the model.

    A `.keras` file needs the registered names only, which stay.
    """
    import keras

    registry = keras.saving.get_custom_objects()
    registered = dict(registry)
    registry.clear()
    try:
        yield
    finally:
        registry.update(registered)


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
    return f"model {uri} cannot be fetched from {without_password(MlflowClient().tracking_uri)}: {root_cause(error)}"
