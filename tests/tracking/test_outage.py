"""Runs against a real MLflow server that dies and comes back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from number_formats import FLOAT32_ROUNDING

from radflow.data.readers.chestxray14 import FINDINGS
from radflow.errors import UserError
from radflow.inference.description import Outputs
from radflow.inference.loaded_model import load_classifier
from radflow.inference.saved_model import save_classifier
from radflow.tracking.run import close_abandoned_run, tracking_run
from radflow.tracking.spool import RunAddress, Spool
from radflow.tracking.sync import sync_spool

if TYPE_CHECKING:
    from mlflow_server import MlflowServer

pytestmark = [
    pytest.mark.slow,
    # Keras' TensorFlow backend copies variables in a way that NumPy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    # MLflow warns of a type hint of its own when mlflow.pyfunc is imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


@pytest.fixture
def client(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    return MlflowClient(server.uri)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 120 s"
        time.sleep(0.1)


def steps(client: MlflowClient, run_id: str, key: str = "train/loss") -> list[int]:
    return [point.step for point in client.get_metric_history(run_id, key)]


def tiny_model() -> keras.Model:
    films = keras.Input((4, 4), dtype="uint8")
    features = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(films))
    return keras.Model(films, keras.layers.Dense(14, activation="sigmoid")(features))


def test_a_server_that_dies_in_mid_run_gets_every_point_exactly_once(
    server: MlflowServer, client: MlflowClient, tmp_path: Path
) -> None:
    with tracking_run("outage", {"seed": 1}) as run:
        run.log_metrics({"train/loss": 1.0, "val/auc/Hernia": math.nan}, step=0)
        wait_until(lambda: steps(client, run.run_id) == [0])
        server.kill()
        for step in range(1, 50):
            run.log_metrics({"train/loss": 1.0 / step}, step=step)
        run.log_text("in the outage", "notes.txt")
        waiting = tmp_path / f"runs/spool/{run.run_id}/records.jsonl"
        wait_until(lambda: waiting.exists() and "notes.txt" in waiting.read_text())
        server.start()
        wait_until(lambda: 49 in steps(client, run.run_id))
        run.log_metrics({"train/loss": 0.0}, step=50)
    assert steps(client, run.run_id) == list(range(51))
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert mlflow.artifacts.load_text(f"runs:/{run.run_id}/notes.txt") == "in the outage"
    assert not list((tmp_path / "runs/spool").iterdir())


def test_a_run_that_ends_in_the_outage_is_completed_by_sync(
    server: MlflowServer, client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    model, films = tiny_model(), np.full((1, 4, 4), 7, np.uint8)
    with tracking_run("outage", {"seed": 1}) as run:
        run.log_metrics({"train/loss": 1.0}, step=0)
        wait_until(lambda: steps(client, run.run_id) == [0])
        server.kill()
        run.log_metrics({"train/loss": 0.5, "test/auc/mean": 0.75}, step=1)
        run.log_table({"finding": ["Mass"]}, "auc.json")
        write = partial(save_classifier, model, Outputs(findings=FINDINGS), films)
        assert run.log_model(write, metrics={"test/auc/mean": 0.75}) is None
    ended = time.time() * 1000
    assert "`radflow sync`" in caplog.text
    with pytest.raises(UserError, match=r"records in .* sync again"):
        sync_spool()
    server.start()
    assert client.get_run(run.run_id).info.status == "RUNNING"
    assert sync_spool() > 0
    assert sync_spool() == 0
    synced = client.get_run(run.run_id)
    assert synced.info.status == "FINISHED"
    assert synced.info.end_time <= ended
    assert steps(client, run.run_id) == [0, 1]
    assert steps(client, run.run_id, "test/auc/mean") == [1]
    assert len(synced.outputs.model_outputs) == 1
    delivered = load_classifier(f"runs:/{run.run_id}/model")
    np.testing.assert_allclose(delivered.predict(films), model(films), **FLOAT32_ROUNDING)


def test_an_abandoned_run_is_closed_after_the_outage(server: MlflowServer, client: MlflowClient) -> None:
    run_id = client.create_run("0").info.run_id
    mlflow.set_tracking_uri(server.uri)
    server.kill()
    close_abandoned_run(run_id, "rank 0 was killed")
    server.start()
    assert sync_spool() == 1
    assert client.get_run(run_id).info.status == "FAILED"


def test_a_run_deleted_meanwhile_does_not_stop_the_job(
    client: MlflowClient, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with tracking_run("deleted", {}) as run:
        client.delete_run(run.run_id)
        run.log_metrics({"train/loss": 1.0}, step=0)
    assert "MLflow refused" in caplog.text
    assert not list((tmp_path / "runs/spool").iterdir())


def test_what_a_server_refuses_is_kept_and_blocks_no_other_run(
    server: MlflowServer, client: MlflowClient, tmp_path: Path
) -> None:
    """A server restored from a backup no longer has the run; beside it lie damaged folders and a run that it has."""
    good = client.create_run("0").info.run_id
    lost = "0" * 32
    for run_id in (lost, good):
        spool = Spool(tmp_path / "spool", RunAddress(server.uri, run_id))
        spool.append([{"kind": "metrics", "points": [["train/loss", 0.5, 1, 1]]}])
        path, relative = spool.new_file("table.csv")
        path.write_text("kept")
        spool.append([{"kind": "artifact", "file": relative, "folder": None}])
        spool.close(keep=True)
    for name, content in (("empty", ""), ("torn", '{"tracking_uri": "http')):
        (tmp_path / "spool" / name).mkdir()
        (tmp_path / "spool" / name / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"2 records sent, but .*refuses 2 records") as error:
        sync_spool(tmp_path / "spool")
    assert str(error.value).count("is damaged") == 2
    assert steps(client, good, "train/loss") == [1]
    assert not (tmp_path / "spool" / good).exists()
    kept = Spool(tmp_path / "spool", RunAddress(server.uri, lost))
    assert [record["kind"] for record in kept.read()] == ["metrics", "artifact"]
    assert (kept.folder / kept.read()[1]["file"]).read_text() == "kept"
    kept.close(keep=False)
