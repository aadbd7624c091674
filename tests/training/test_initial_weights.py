"""A classifier in MLflow gives its body to another one's training."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from radflow.errors import UserError
from radflow.inference.description import Outputs
from radflow.inference.saved_model import save_classifier
from radflow.models.classifier import build_classifier
from radflow.models.config import ModelConfig
from radflow.tracking.run import tracking_run
from radflow.training.initial_weights import check_weights, resolve_alias, weights_file

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    # MLflow warns of a type hint of its own when mlflow.pyfunc is imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

SIZE = 32


def vgg(weights: str = "none", file: Path | None = None, findings: int = 1, seed: int = 0):
    return build_classifier(
        ModelConfig(arch="vgg16", weights=weights), "float32", SIZE, np.full(findings, 0.3), seed, file
    )


@pytest.fixture
def logged(store: MlflowClient):
    """A chest classifier with 14 findings in a run, and registered with an alias."""
    model = vgg(findings=14, seed=5)
    outputs = Outputs(findings=tuple(f"Finding{number}" for number in range(14)))
    params = {"arch": "vgg16", "norm": "none"}
    film = np.zeros((1, SIZE, SIZE), np.uint8)
    with tracking_run("chest", {}) as run:
        uri = run.log_model(lambda folder: save_classifier(model, outputs, film, folder, params))
    version = mlflow.register_model(uri, "radflow-chest-vgg16")
    store.set_registered_model_alias("radflow-chest-vgg16", "champion", version.version)
    return model, run.run_id


def test_every_way_to_name_it_gives_its_body_and_a_new_head(logged, tmp_path: Path):
    model, run_id = logged
    folder = mlflow.artifacts.download_artifacts("models:/radflow-chest-vgg16/1", dst_path=str(tmp_path / "copy"))
    registered = ("models:/radflow-chest-vgg16@champion", "models:/radflow-chest-vgg16/1")
    for uri in (*registered, f"runs:/{run_id}/model", folder):
        check_weights(ModelConfig(arch="vgg16", weights=uri))
        with weights_file(uri) as file:
            assert file is not None
            transferred = vgg(uri, file)
        for got, given in zip(transferred.get_layer("vgg16").weights, model.get_layer("vgg16").weights, strict=True):
            np.testing.assert_array_equal(np.asarray(got), np.asarray(given))
        assert transferred.output_shape == (None, 1)
        assert not np.asarray(transferred.get_layer("logits").kernel).any()


def test_looking_at_a_model_leaves_no_files_behind(logged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _, run_id = logged
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    for uri in ("models:/radflow-chest-vgg16@champion", "models:/radflow-chest-vgg16/1", f"runs:/{run_id}/model"):
        check_weights(ModelConfig(arch="vgg16", weights=uri))
    assert not list(temporary.iterdir())


def test_an_alias_is_settled_as_the_version_that_it_stands_for(logged):
    assert resolve_alias("models:/radflow-chest-vgg16@champion") == "models:/radflow-chest-vgg16/1"
    assert resolve_alias("models:/radflow-chest-vgg16/1") == "models:/radflow-chest-vgg16/1"
    assert resolve_alias("imagenet") == "imagenet"
    with pytest.raises(UserError, match="nobody"):
        resolve_alias("models:/nobody@champion")


def test_what_does_not_fit_is_told_before_training(logged):
    uri = "models:/radflow-chest-vgg16@champion"
    with pytest.raises(UserError, match=r"of vgg16 with norm=none, not of densenet121 with norm=batch") as error:
        check_weights(ModelConfig(weights=uri))
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="nobody"):
        check_weights(ModelConfig(weights="models:/nobody@champion"))
    with pytest.raises(UserError, match="cannot be fetched"):
        check_weights(ModelConfig(weights="runs:/0123456789abcdef0123456789abcdef/model"))


def test_files_and_words_are_not_fetched(tmp_path: Path):
    for weights in ("none", "imagenet", str(tmp_path / "body.weights.h5")):
        with weights_file(weights) as file:
            assert file is None
