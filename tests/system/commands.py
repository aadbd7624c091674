"""How system tests run radflow: the real commands, as a user runs them, in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

REPOSITORY = Path(__file__).resolve().parent.parent.parent

Command = Callable[..., subprocess.CompletedProcess[str]]


def user_environment(folder: Path) -> dict[str, str]:
    """The environment of a user in `folder`, with none of the settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RADFLOW_", "OMPI_"))}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
    }


def run_entry_point(folder: Path, entry: str, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return _run(folder, [f"entrypoints.{entry}", *flags], environment)


def run_radflow(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m radflow` with these words."""
    return _run(folder, ["radflow", *words], environment)


def _run(folder: Path, words: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", *words]
    settings = user_environment(folder) | dict(environment)
    return subprocess.run(
        line,
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        stdin=subprocess.DEVNULL,
    )


def runs_of(folder: Path) -> list[Run]:
    """Every run in the folder's store, newest first."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, order_by=["attributes.start_time DESC"]))
