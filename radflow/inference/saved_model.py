"""Classifiers as folders: `.keras` inside an MLflow model of two flavours, written without pickling anything.

`mlflow.tensorflow.load_model` gives the Keras model, from arrays to probabilities. `mlflow.pyfunc.load_model`, and so
`mlflow models serve`, runs registry/served_model.py, from the bytes of films to a table.
"""

from __future__ import annotations

import base64
import json
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import AnyType

from radflow.inference.description import ABOVE_PREFIX, GOLDEN_FILM_FILE, Description, Outputs
from radflow.registry_files import registry_file
from radflow.versions import installed_versions

if TYPE_CHECKING:
    import keras

_RADFLOW = Path(__file__).parent.parent
_SERVED_CODE = registry_file("served_model.py")
_CARRIED_MODULES = (
    *(_RADFLOW / "data" / "images").glob("[!_]*.py"),
    _RADFLOW / "inference" / "description.py",
    _RADFLOW / "inference" / "dynamic_batcher.py",
    _RADFLOW / "inference" / "graph.py",
)
"""What the served code imports from radflow; models carry them as the package `radflow_served`."""

_SERVED_PACKAGES = ("pandas", "pillow", "isal", "pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg")


def save_classifier(
    model: keras.Model,
    outputs: Outputs,
    example: np.ndarray,
    folder: Path,
    metadata: Mapping[str, str] | None = None,
    files: Sequence[Path] = (),
) -> None:
    """Write a model as an MLflow model folder with both flavours, without pickling anything.

    The first film of `example`, uint8 [N, size, size], and what the model gives for it now go along: a model that does
    not reproduce it is not loaded. `metadata` stays with the folder wherever it goes. Copies of `files` lie beside it.
    The requirements are given, since MLflow would else load and run the model in a second process to find them.

    Raises ValueError if `example` is not uint8 [N, size, size], or `outputs` are not those of the model.
    """
    import mlflow.tensorflow

    if example.dtype != np.uint8 or example.ndim != 3 or example.shape[1] != example.shape[2]:
        raise ValueError(f"example is {example.dtype} {list(example.shape)}; expected uint8 films [N, size, size]")
    description = _describe(model, outputs, example[:1], metadata or {})
    with _registered_classes_hidden():
        mlflow.tensorflow.save_model(
            model,
            str(folder),
            signature=_keras_signature(model),
            conda_env=_environment(),
            metadata=dict(metadata or {}),
        )
    description.write(folder)
    for file in files:
        shutil.copyfile(file, folder / file.name)
    _add_served_flavour(folder, _signature(description.findings))


def _describe(
    model: keras.Model, outputs: Outputs, golden_film: np.ndarray, metadata: Mapping[str, str]
) -> Description:
    """What the folder says of the model."""
    given = {"findings": len(outputs.findings), **{rule: len(each) for rule, each in outputs.thresholds.items()}}
    for name, count in given.items():
        if count != model.output_shape[-1]:
            raise ValueError(f"{count} {name} are given; expected {model.output_shape[-1]}, one an output")
    return Description(
        **vars(outputs),
        golden_film=golden_film[0],
        golden_probabilities=np.asarray(model(golden_film, training=False), np.float64)[0],
        about={**metadata, **{f"version_{name}": told for name, told in installed_versions(("radflow",)).items()}},
    )


def _keras_signature(model: keras.Model) -> ModelSignature:
    """Signature of the Keras model itself, without which MLflow warns; the folder's is that of the served flavour."""
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, *model.input_shape[1:]))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, model.output_shape[-1]))]),
    )


def _signature(findings: tuple[str, ...]) -> ModelSignature:
    """Signature of the served flavour; a film may be anything to MLflow: the served code alone says what is wrong."""
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
                ColSpec(DataType.string, "warning", required=False),
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
        shutil.copyfile(module, carried / module.name)
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


def _environment() -> dict[str, Any]:
    """What serving needs, pinned to what is installed (GPU machines have `tensorflow`, others its CPU wheel).

    As conda writes it, from which MLflow makes requirements.txt; from requirements alone it would miss pip's version,
    which environments of uv do not have, and say so at every training's end.
    """
    packages = installed_versions(("mlflow", "tensorflow-cpu", "tensorflow", "keras", "numpy", *_SERVED_PACKAGES))
    requirements = [f"{package}=={version}" for package, version in packages.items()]
    python = f"python={platform.python_version()}"
    return {"name": "radflow", "channels": ["conda-forge"], "dependencies": [python, "pip", {"pip": requirements}]}


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
