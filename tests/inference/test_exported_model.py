"""Exports give what the Keras model gives, in onnxruntime and in TensorFlow without radflow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from small_classifier import CALIBRATED, FINDINGS, random_films, save_small_classifier

from radflow.errors import JobError, UserError
from radflow.inference.description import Outputs
from radflow.inference.exported_model import export_classifier
from radflow.inference.loaded_model import LoadedClassifier, load_classifier
from radflow.inference.saved_model import save_classifier
from radflow.models.classifier import average_of_members, build_classifier
from radflow.models.config import ModelConfig

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    # MLflow warns of a type hint of its own when mlflow.pyfunc is imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
    # tf2onnx and protobuf, of their own code
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tf2onnx.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

FILMS = random_films(5)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedClassifier, keras.Model]:
    folder = tmp_path_factory.mktemp("exported") / "model"
    model = save_small_classifier(folder, outputs=CALIBRATED)
    return load_classifier(str(folder)), model


def test_onnx_gives_the_same_probabilities_of_any_number_of_films(loaded, tmp_path: Path) -> None:
    import onnxruntime

    folder = export_classifier(loaded[0], "onnx", tmp_path / "out")
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    expected = np.asarray(loaded[1](FILMS))
    np.testing.assert_allclose(session.run(None, {"films": FILMS})[0], expected, rtol=1e-4)
    np.testing.assert_allclose(session.run(None, {"films": FILMS[:1]})[0], expected[:1], rtol=1e-4)
    described = json.loads((folder / "classifier.json").read_text())
    assert tuple(described["findings"]) == FINDINGS
    assert described["calibration"]["slopes"] == CALIBRATED.calibration.slopes.tolist()
    assert (folder / "golden.png").is_file()


@pytest.mark.slow
def test_a_model_that_computes_in_bfloat16_is_float32_in_onnx(tmp_path: Path) -> None:
    """A DenseNet as training builds it, mirrored: a nested model, batch normalisation, 16-bit layers."""
    import onnxruntime

    config = ModelConfig(arch="densenet121", norm="batch")
    member = build_classifier(config, "mixed_bfloat16", 32, np.full(3, 0.3), seed=1)
    model = average_of_members([member], "radflow_densenet121", mirrored=True)
    films = random_films(2)
    save_classifier(model, Outputs(findings=FINDINGS), films, tmp_path / "model")
    folder = export_classifier(load_classifier(str(tmp_path / "model")), "onnx", tmp_path / "out")
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    np.testing.assert_allclose(session.run(None, {"films": films})[0], np.asarray(model(films)), atol=0.02)


def test_a_saved_model_runs_where_there_is_no_radflow(loaded, tmp_path: Path) -> None:
    folder = export_classifier(loaded[0], "saved_model", tmp_path / "out")
    np.save(tmp_path / "films.npy", FILMS)
    program = (
        "import sys; sys.modules['radflow'] = None\n"
        "import numpy, tensorflow as tf\n"
        "films = tf.constant(numpy.load('films.npy'))\n"
        "module = tf.saved_model.load('out/saved_model')\n"
        "numpy.save('out.npy', module.serve(films).numpy())"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), np.asarray(loaded[1](FILMS)), rtol=1e-4)
    assert folder == tmp_path / "out"


def test_an_export_that_computes_something_else_leaves_nothing(loaded, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("radflow.inference.exported_model._write_saved_model", lambda *_: lambda films: np.ones((1, 3)))
    with pytest.raises(JobError, match="golden film"):
        export_classifier(loaded[0], "saved_model", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_one_line(loaded, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(UserError, match="format=tflite is not known; expected onnx or saved_model"):
        export_classifier(loaded[0], "tflite", tmp_path / "out")
    with pytest.raises(UserError, match=r"out=.* exists"):
        export_classifier(loaded[0], "onnx", tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs tf2onnx and onnxruntime; pip install 'radflow\[onnx\]'"):
        export_classifier(loaded[0], "onnx", tmp_path / "out")
