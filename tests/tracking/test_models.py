from __future__ import annotations

import base64
import dataclasses
import io
import json
from pathlib import Path

import keras
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from number_formats import FLOAT32_ROUNDING
from PIL import Image

from radflow.errors import UserError
from radflow.inference.description import Calibration, Outputs
from radflow.inference.loaded_model import load_classifier
from radflow.inference.saved_model import save_classifier
from radflow.tracking.run import tracking_run

pytestmark = [
    # Keras' TensorFlow backend copies variables in a way that NumPy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    # MLflow warns of a type hint of its own when mlflow.pyfunc is imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

FILMS = np.arange(2 * 12 * 12).astype(np.uint8).reshape(2, 12, 12)
PARAMS = {"arch": "tiny"}
OUTPUTS = Outputs(
    findings=("A", "B", "C"),
    thresholds={"youden": np.array([0.4, 0.6, np.nan])},
)


def png(film: np.ndarray) -> str:
    """A film as a request to the served model holds it."""
    file = io.BytesIO()
    Image.fromarray(film).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    films = keras.Input((12, 12), dtype="uint8", name="film")
    features = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(films))
    return keras.Model(films, keras.layers.Dense(3, activation="sigmoid")(features))


@pytest.fixture
def logged(store: MlflowClient, model: keras.Model) -> tuple[str, str]:
    """The run and the URI of a logged model."""
    with tracking_run("model", {}) as run:
        run.log_metrics({"test/auc/mean": 0.75, "test/loss": 0.2}, step=3)
        uri = run.log_model(
            lambda folder: save_classifier(model, OUTPUTS, FILMS[:1], folder, PARAMS),
            metrics={"test/auc/mean": 0.75},
            params=PARAMS,
        )
    assert uri is not None
    return run.run_id, uri


def test_a_logged_model_predicts_the_same_however_it_is_named(
    store: MlflowClient, model: keras.Model, logged: tuple[str, str]
) -> None:
    run_id, uri = logged
    version = mlflow.register_model(uri, "radflow-chest-tiny").version
    store.set_registered_model_alias("radflow-chest-tiny", "champion", version)
    expected = np.asarray(model(FILMS))
    registered = ("models:/radflow-chest-tiny@champion", "models:/radflow-chest-tiny/1")
    np.testing.assert_array_equal(np.asarray(mlflow.tensorflow.load_model(uri)(FILMS)), expected)
    in_a_graph = load_classifier(uri).predict(FILMS)
    np.testing.assert_allclose(in_a_graph, expected, **FLOAT32_ROUNDING)
    for name in (f"runs:/{run_id}/model", *registered, mlflow.artifacts.download_artifacts(uri)):
        np.testing.assert_array_equal(load_classifier(name).predict(FILMS), in_a_graph)
    served = mlflow.pyfunc.load_model(uri).predict(pd.DataFrame({"film": [png(film) for film in FILMS]}))
    np.testing.assert_allclose(served[["A", "B", "C"]].astype(float), in_a_graph, rtol=1e-6)


def test_a_logged_model_says_what_it_takes_and_how_good_it_is(store: MlflowClient, logged: tuple[str, str]) -> None:
    run_id, uri = logged
    info = mlflow.models.get_model_info(uri)
    assert info.signature.inputs.input_names() == ["film"]
    assert info.signature.outputs.input_names() == [
        "film",
        "A",
        "B",
        "C",
        "above/A",
        "above/B",
        "above/C",
        "error",
        "warning",
    ]
    assert info.flavors.keys() == {"tensorflow", "python_function"}
    assert (info.run_id, info.model_id) == (run_id, uri.removeprefix("models:/"))
    entity = store.get_logged_model(info.model_id)
    assert (str(entity.status), entity.source_run_id, entity.params) == ("READY", run_id, PARAMS)
    assert {metric.key: metric.value for metric in entity.metrics} == {"test/auc/mean": 0.75}
    assert [output.model_id for output in store.get_run(run_id).outputs.model_outputs] == [info.model_id]
    assert len(store.get_metric_history(run_id, "test/auc/mean")) == 1


def test_nothing_in_a_saved_model_is_pickled(model: keras.Model, tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("radflow-tests")
    class Registered(keras.layers.Layer):
        pass

    save_classifier(model, OUTPUTS, FILMS[:1], tmp_path / "model")
    names = sorted(str(file.relative_to(tmp_path / "model")) for file in (tmp_path / "model").rglob("*"))
    assert "data/model.keras" in names
    assert not [name for name in names if "pickle" in name or name.endswith(".pkl")]
    assert keras.saving.get_registered_object("radflow-tests>Registered") is Registered
    del keras.saving.get_custom_objects()["radflow-tests>Registered"]


def test_a_model_keeps_its_findings_thresholds_and_golden_film(model: keras.Model, tmp_path: Path) -> None:
    calibration = Calibration(np.array([2.0, 1.0, 0.5]), np.array([0.0, 0.0, -1.0]))
    outputs = dataclasses.replace(OUTPUTS, calibration=calibration)
    save_classifier(model, outputs, FILMS, tmp_path / "model", {**PARAMS, "data_digest": "abc"})
    description = load_classifier(str(tmp_path / "model")).description
    assert description.findings == ("A", "B", "C")
    np.testing.assert_array_equal(description.thresholds["youden"], [0.4, 0.6, np.nan])
    np.testing.assert_array_equal(description.calibration.slopes, [2, 1, 0.5])
    np.testing.assert_array_equal(description.calibration.offsets, [0, 0, -1])
    np.testing.assert_array_equal(description.golden_film, FILMS[0])
    np.testing.assert_allclose(description.golden_probabilities, np.asarray(model(FILMS[:1]))[0], rtol=1e-6)
    assert description.about["data_digest"] == "abc"
    assert "version_radflow" in description.about


def test_a_model_that_computes_something_else_is_not_loaded(model: keras.Model, tmp_path: Path) -> None:
    """Weights that were exchanged, a TensorFlow that computes otherwise: the golden film tells, to both doors."""
    folder = tmp_path / "model"
    save_classifier(model, OUTPUTS, FILMS, folder, PARAMS)
    other = keras.models.clone_model(model)
    other.save(folder / "data" / "model.keras")
    with pytest.raises(UserError, match="golden film") as error:
        load_classifier(str(folder))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="golden film"):
        mlflow.pyfunc.load_model(str(folder))


def test_rounding_of_another_machine_is_no_reason_to_refuse_a_model(model: keras.Model, tmp_path: Path) -> None:
    save_classifier(model, OUTPUTS, FILMS, tmp_path / "model", PARAMS)
    file = tmp_path / "model" / "classifier.json"
    content = json.loads(file.read_text())
    content["golden_probabilities"] = [1.02 * probability for probability in content["golden_probabilities"]]
    file.write_text(json.dumps(content))
    assert load_classifier(str(tmp_path / "model")).findings == ("A", "B", "C")


def test_a_model_that_does_not_describe_itself_is_one_line(model: keras.Model, tmp_path: Path) -> None:
    save_classifier(model, OUTPUTS, FILMS, tmp_path / "model", PARAMS)
    (tmp_path / "model" / "classifier.json").write_text("{}")
    with pytest.raises(UserError, match="does not describe itself") as error:
        load_classifier(str(tmp_path / "model"))
    assert "\n" not in str(error.value)


def test_requirements_are_pinned_to_what_is_installed(
    model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # As in an environment made by uv, which has no pip.
    monkeypatch.setattr("mlflow.utils.environment._get_package_version", lambda _: None)
    save_classifier(model, OUTPUTS, FILMS[:1], tmp_path / "model")
    assert "WARNING" not in capfd.readouterr().err
    requirements = (tmp_path / "model/requirements.txt").read_text().split()
    assert f"keras=={keras.__version__}" in requirements
    assert f"mlflow=={mlflow.__version__}" in requirements
    assert all("==" in requirement for requirement in requirements)


def test_a_model_of_an_earlier_radflow_has_thresholds_of_one_rule_and_no_calibration(
    model: keras.Model, tmp_path: Path
) -> None:
    save_classifier(model, OUTPUTS, FILMS, tmp_path / "model", PARAMS)
    file = tmp_path / "model" / "classifier.json"
    content = json.loads(file.read_text())
    del content["calibration"]
    file.write_text(json.dumps({**content, "thresholds": [0.4, 0.6, None]}))
    description = load_classifier(str(tmp_path / "model")).description
    np.testing.assert_array_equal(description.thresholds["youden"], [0.4, 0.6, np.nan])
    np.testing.assert_allclose(description.calibration(np.array([[0.1, 0.5, 0.9]])), [[0.1, 0.5, 0.9]])


def test_outputs_that_are_not_the_model_s_are_refused(model: keras.Model, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 findings are given; expected 3"):
        save_classifier(model, Outputs(findings=("A", "B")), FILMS, tmp_path / "model")


@pytest.mark.parametrize("example", [FILMS.astype(np.float32), FILMS[0], FILMS[:, :6]])
def test_an_example_that_is_not_films_is_refused(model: keras.Model, example: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 films \[N, size, size\]"):
        save_classifier(model, OUTPUTS, example, tmp_path / "model")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        (
            "models:/radflow-chest-vgg16@champion",
            "no champion of radflow-chest-vgg16 yet; run `mlflow run . -e promote`",
        ),
        ("models:/radflow-chest-vgg16/3", "models:/radflow-chest-vgg16/3 cannot be fetched"),
        ("models:/m-0123456789abcdef0123456789abcdef", "cannot be fetched"),
        ("runs:/0123456789abcdef0123456789abcdef/model", "cannot be fetched"),
        ("densenet121", "neither a folder nor an MLflow model URI"),
        ("/no/such/folder", "neither a folder nor an MLflow model URI"),
    ],
)
def test_a_model_that_is_not_there_is_one_line(store: MlflowClient, uri: str, says: str) -> None:
    mlflow.set_tracking_uri(store.tracking_uri)
    with pytest.raises(UserError) as error:
        load_classifier(uri)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_an_alias_that_a_known_model_lacks_is_one_line(store: MlflowClient) -> None:
    mlflow.set_tracking_uri(store.tracking_uri)
    store.create_registered_model("radflow-chest-vgg16")
    with pytest.raises(UserError, match="no champion of radflow-chest-vgg16 yet"):
        load_classifier("models:/radflow-chest-vgg16@champion")


def test_a_folder_without_a_keras_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no data/model\.keras"):
        load_classifier(str(tmp_path))


def test_code_hidden_in_a_model_is_not_run(tmp_path: Path) -> None:
    """A Lambda layer is arbitrary code: safe mode refuses it."""
    films = keras.Input((2,))
    (tmp_path / "data").mkdir()
    keras.Model(films, keras.layers.Lambda(lambda values: values * 2)(films)).save(tmp_path / "data/model.keras")
    with pytest.raises(UserError, match="cannot be loaded") as error:
        load_classifier(str(tmp_path))
    assert "\n" not in str(error.value)
