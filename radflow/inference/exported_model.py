"""Classifiers in the formats of other programs: ONNX and TensorFlow's SavedModel, held to their golden film.

Bytes to square grey films, and calibration, stay outside: classifier.json beside the model says how.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from radflow.errors import JobError, UserError
from radflow.inference.description import NotReproducedError
from radflow.inference.loaded_model import LoadedClassifier

if TYPE_CHECKING:
    import keras

Format = Literal["onnx", "saved_model"]
ONNX_FILE, SAVED_MODEL_FOLDER = "model.onnx", "saved_model"

Predict = Callable[[np.ndarray], np.ndarray]


def export_classifier(loaded: LoadedClassifier, kind: str, out: Path) -> Path:
    """Write a classifier into the new folder `out`: the model, classifier.json and the golden film.

    The model takes uint8 [n, size, size] and gives float32 [n, findings], the network's own probabilities. It is run
    once, and must give the golden film what it gave when the classifier was saved.

    Raises
    ------
    UserError
        An unknown format, an `out` that exists, or ONNX where its packages are not installed.
    JobError
        The exported model gives something else.
    """
    known: tuple[str, ...] = get_args(Format)
    if kind not in known:
        raise UserError(f"format={kind} is not known; expected {' or '.join(known)}")
    if out.exists():
        raise UserError(f"out={out} exists; name a new folder, or remove it")
    missing = [name for name in ("tf2onnx", "onnxruntime") if kind == "onnx" and not importlib.util.find_spec(name)]
    if missing:
        raise UserError(f"format=onnx needs {' and '.join(missing)}; pip install 'radflow[onnx]'")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        folder = Path(temporary) / out.name
        folder.mkdir()
        loaded.description.write(folder)
        predict = _write_onnx(loaded, folder) if kind == "onnx" else _write_saved_model(loaded, folder)
        try:
            loaded.description.check(predict)
        except NotReproducedError as error:
            raise JobError(f"the export as {kind} is wrong: {error}") from error
        shutil.move(folder, out)
    return out


def _write_onnx(loaded: LoadedClassifier, folder: Path) -> Predict:
    import keras
    import onnxruntime

    size = loaded.image_size
    films = keras.InputSpec(shape=(None, size, size), dtype="uint8", name="films")
    path = folder / ONNX_FILE
    with _quietly():
        _in_float32(loaded.model).export(path, format="onnx", input_signature=[films], verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    return lambda batch: session.run(None, {name: batch})[0]


def _in_float32(model: keras.Model) -> keras.Model:
    """The same model with the same weights, computed in float32: ONNX has no convolutions of bfloat16."""
    import keras

    def settled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: settled(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(settled(each) for each in value)
        return "float32" if value in ("mixed_bfloat16", "bfloat16") else value

    copy = keras.Model.from_config(settled(model.get_config()))
    copy.set_weights(model.get_weights())
    return copy


def _write_saved_model(loaded: LoadedClassifier, folder: Path) -> Predict:
    import tensorflow as tf

    path = folder / SAVED_MODEL_FOLDER
    with _quietly():
        loaded.model.export(path, format="tf_saved_model", verbose=False)
    module = tf.saved_model.load(path)  # which must live as long as its function
    return lambda batch: module.serve(tf.constant(batch)).numpy()


def _quietly() -> ExitStack:
    """Keep the converters' progress off the terminal."""
    stack = ExitStack()
    stack.enter_context(redirect_stdout(StringIO()))
    for name in ("tf2onnx", "tensorflow", "absl"):
        logger = logging.getLogger(name)
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
    return stack
