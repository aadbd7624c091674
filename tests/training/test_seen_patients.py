"""Whom initial weights have seen, by whatever name they are given; and what a job says and keeps of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from small_classifier import save_small_classifier

from radflow.data.seen_patients import PATIENTS_FILE, SeenPatients, SeenSource, hashes
from radflow.errors import UserError
from radflow.tracking.run import tracking_run
from radflow.training.initial_weights import patients_seen_by
from radflow.training.leakage import read_seen_patients

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    # MLflow warns of a type hint of its own when mlflow.pyfunc is imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

SEEN = SeenPatients((SeenSource(frozenset({"cxr"}), hashes("123"), hashes("45")),), ("body.weights.h5",))


def log_classifier(*files: Path) -> str:
    """URI of a classifier that is logged with these files."""
    with tracking_run("model", {}) as run:
        uri = run.log_model(lambda folder: save_small_classifier(folder, files))
    assert uri is not None
    return uri


def test_every_name_of_a_model_leads_to_the_patients_that_it_has_seen(store: MlflowClient, tmp_path: Path) -> None:
    SEEN.write(tmp_path)
    uri = log_classifier(tmp_path / PATIENTS_FILE)
    run_id = store.get_logged_model(uri.removeprefix("models:/")).source_run_id
    version = mlflow.register_model(uri, "radflow-chest-tiny").version
    store.set_registered_model_alias("radflow-chest-tiny", "champion", version)
    folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path / "copy")))
    alone = Path(shutil.copyfile(folder / "data/model.keras", tmp_path / "mine.keras"))
    registered = ("models:/radflow-chest-tiny@champion", "models:/radflow-chest-tiny/1")
    for weights in (uri, *registered, f"runs:/{run_id}/model", folder, folder / "data/model.keras", alone):
        assert patients_seen_by(str(weights)) == SEEN, weights
    # A folder that was handed on without its MLmodel is a model all the same.
    (folder / "MLmodel").unlink()
    assert patients_seen_by(str(folder)) == SEEN


def test_who_does_not_say_is_unknown_and_imagenet_has_seen_none(store: MlflowClient, tmp_path: Path) -> None:
    mlflow.set_tracking_uri(store.tracking_uri)
    for word in ("none", "imagenet"):
        assert patients_seen_by(word) == SeenPatients()
    for name in ("body.weights.h5", "stranger.keras"):
        (tmp_path / name).write_bytes(b"of somebody else")
        assert patients_seen_by(str(tmp_path / name)) == SeenPatients(unknown=(str(tmp_path / name),))
    old = log_classifier()
    assert patients_seen_by(old) == SeenPatients(unknown=(old,))


def test_a_damaged_list_is_one_line(store: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / PATIENTS_FILE).write_text("{}")
    uri = log_classifier(tmp_path / PATIENTS_FILE)
    with pytest.raises(UserError, match=rf"patients\.json of {uri} cannot be read") as error:
        patients_seen_by(uri)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"patients\.json cannot be read"):
        read_seen_patients(tmp_path)


def test_a_job_of_an_earlier_radflow_kept_no_list(tmp_path: Path) -> None:
    assert read_seen_patients(tmp_path) == SeenPatients(unknown=(f"the job in {tmp_path}",))
