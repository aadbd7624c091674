"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from mlflow_server import MlflowServer

from radflow.terminal import show_log

if TYPE_CHECKING:
    from mlflow import MlflowClient

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real radiographs; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("RADFLOW_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real films not found at {folder}; set RADFLOW_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty sqlite store: making one takes seconds, copying it does not."""
    from mlflow import MlflowClient

    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{database}").search_experiments(max_results=1)
    return database


def copy_store(fresh: Path, folder: Path, artifacts: str) -> None:
    """Put a store into a folder whose default experiment keeps its artefacts as one that was made there would."""
    shutil.copyfile(fresh, folder / "mlflow.db")
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET artifact_location = ?", (artifacts,))


@pytest.fixture
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An own working folder and no MLflow settings of whoever runs the tests."""
    import mlflow

    for name in ("TRACKING_URI", "RUN_ID", "EXPERIMENT_ID", "EXPERIMENT_NAME", "TRACKING_USERNAME", "TRACKING_TOKEN"):
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    # Loopback servers are asked directly, whatever proxy this machine has.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(None)
    yield
    mlflow.set_tracking_uri(None)


@pytest.fixture
def store(tmp_path: Path, fresh_store: Path, clean_environment: None) -> MlflowClient:
    """A client of an empty sqlite store in the working folder, which is where a run goes by default."""
    from mlflow import MlflowClient

    copy_store(fresh_store, tmp_path, f"{tmp_path}/mlruns/0")
    return MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def server(tmp_path: Path, fresh_store: Path, clean_environment: None) -> Iterator[MlflowServer]:
    """A started server, ended with the test."""
    folder = tmp_path / "server"
    folder.mkdir()
    copy_store(fresh_store, folder, "mlflow-artifacts:/0")
    running = MlflowServer(folder, folder / "mlflow.db")
    running.start()
    yield running
    running.kill()


# A property that took long on a busy machine is not a wrong one.
settings.register_profile("radflow", deadline=None)
settings.load_profile("radflow")


@pytest.fixture(scope="session", autouse=True)
def log_on_stderr() -> None:
    """Show what a command would."""
    show_log()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what radflow remembers between commands out of the cache of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RADFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
