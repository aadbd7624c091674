from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_server import MlflowServer

from radflow.errors import UserError
from radflow.tracking.connection import (
    find_or_create_experiment,
    prepare_tracking,
    show_as_training,
    where_to_look,
)
from radflow.tracking.run import tracking_run

pytestmark = pytest.mark.usefixtures("clean_environment")


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.fixture
def web_server() -> Iterator[type[BaseHTTPRequestHandler]]:
    """A web server that is not MLflow: says 'fine' to /health and `status` to everything else."""

    class Answers(BaseHTTPRequestHandler):
        status = 200
        uri = ""

        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else self.status)
            self.end_headers()
            self.wfile.write(b"fine" if self.path == "/health" else b"Invalid Host header")

        do_POST = do_GET  # noqa: N815 - http.server's naming

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server's naming
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as listening:
        Answers.uri = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield Answers
        listening.shutdown()
        thread.join()


def test_the_default_is_a_sqlite_file_here_that_children_find_from_elsewhere(
    store: MlflowClient, tmp_path: Path
) -> None:
    assert prepare_tracking() == f"sqlite:///{tmp_path}/mlflow.db"
    assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_relative_sqlite_uri_becomes_absolute(store: MlflowClient, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert prepare_tracking() == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.slow
def test_starters_at_the_same_moment_share_a_fresh_store(tmp_path: Path) -> None:
    program = "from radflow.tracking.connection import prepare_tracking; print(prepare_tracking())"
    starters = [
        subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for starter in starters:
        out, errors = starter.communicate()
        assert starter.returncode == 0, errors.decode()
        assert out.decode().strip() == f"sqlite:///{tmp_path}/mlflow.db"
    assert MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_experiment("0").name == "Default"


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "./mlruns", "mlruns"])
def test_file_stores_are_refused_with_the_mend(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI") as error:
        prepare_tracking()
    assert uri in one_line(error)
    assert "sqlite:///mlflow.db" in one_line(error)


def test_a_damaged_store_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database, surely" * 100)
    with pytest.raises(UserError, match=r"mlflow\.db cannot be used") as error:
        prepare_tracking()
    one_line(error)


def test_a_port_without_a_server_is_one_line_and_hides_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:secret@127.0.0.1:{port}")
        with pytest.raises(UserError, match="does not answer") as error:
            prepare_tracking()
    assert f"127.0.0.1:{port}" in one_line(error)
    assert "Connection refused" in one_line(error)
    assert "secret" not in one_line(error)


@pytest.mark.slow
def test_a_password_in_the_server_s_address_is_used_and_never_printed(
    server: MlflowServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("://", "://ann:s%2Fcret@"))
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "of another server")
    with tracking_run("training", {}) as run:
        run.log_metrics({"train/loss": 0.5}, step=0)
    printed = "".join(capfd.readouterr())
    assert run.run_id in printed
    assert "cret" not in printed
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("ann", "s/cret")


def test_a_server_that_accepts_and_never_speaks_does_not_hold_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{mute.getsockname()[1]}")
        with pytest.raises(UserError, match="does not answer") as error:
            prepare_tracking()
    assert "timed out" in one_line(error)


def test_a_database_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://ann:secret@127.0.0.1:{port}/mlflow")
        with pytest.raises(UserError, match=f"does not answer on 127.0.0.1:{port}") as error:
            prepare_tracking()
    assert "secret" not in one_line(error)


@pytest.mark.parametrize(
    ("status", "says"),
    [(401, "refuses this user"), (403, "refuses this user"), (404, "does not serve MLflow"), (200, "does not serve")],
)
def test_a_server_that_is_not_mlflow_or_refuses_is_one_line(
    status: int, says: str, web_server: type[BaseHTTPRequestHandler], monkeypatch: pytest.MonkeyPatch
) -> None:
    web_server.status = status
    monkeypatch.setenv("MLFLOW_TRACKING_URI", web_server.uri)
    with pytest.raises(UserError, match=says) as error:
        prepare_tracking()
    assert web_server.uri in one_line(error)


def test_the_experiment_is_that_of_mlflow_run_unless_the_environment_says_otherwise(
    store: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = prepare_tracking()
    assert find_or_create_experiment(store, uri) == "0"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "chest/large batch")
    named = store.get_experiment(find_or_create_experiment(store, uri))
    assert named.name == "chest/large batch"
    assert Path(named.artifact_location).parent == tmp_path / "mlruns"
    assert find_or_create_experiment(store, uri) == named.experiment_id
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", named.experiment_id)
    assert find_or_create_experiment(store, uri) == named.experiment_id


@pytest.mark.parametrize("name", ["", "chest"])
def test_a_deleted_experiment_is_one_line(store: MlflowClient, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    uri = prepare_tracking()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    store.delete_experiment(find_or_create_experiment(store, uri))
    with pytest.raises(UserError, match="restore") as error:
        find_or_create_experiment(store, uri)
    one_line(error)


def test_a_fresh_store_keeps_its_artefacts_beside_the_database(
    tmp_path: Path, clean_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/kept/mlflow.db")
    client = MlflowClient(prepare_tracking())
    assert client.get_experiment("0").artifact_location == str(tmp_path / "kept" / "mlruns" / "0")


def test_experiments_open_in_the_view_of_trainings_unless_somebody_has_chosen_another(store: MlflowClient) -> None:
    show_as_training(store, "0")
    assert store.get_experiment("0").tags["mlflow.experimentKind"] == "custom_model_development"
    chosen = store.create_experiment("chosen", tags={"mlflow.experimentKind": "genai_development"})
    show_as_training(store, chosen)
    assert store.get_experiment(chosen).tags["mlflow.experimentKind"] == "genai_development"


def test_where_to_look_names_a_page_for_servers_and_a_command_for_files() -> None:
    page = "/#/experiments/7/runs/ab12?workflowType=machine_learning"
    assert where_to_look("https://ann:secret@mlflow.clinic/", "7", "ab12") == f"https://ann:***@mlflow.clinic{page}"
    local = where_to_look("sqlite:////x/mlflow.db", "7", "ab12")
    assert local == f"`mlflow ui --backend-store-uri sqlite:////x/mlflow.db` and http://127.0.0.1:5000{page}"
