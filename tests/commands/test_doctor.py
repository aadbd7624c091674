"""What is missing is told with its fix, and what is there is not called missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from radflow.commands.doctor import Diagnostic, examine, examine_mlflow_run, print_report
from radflow.tracking.project_environment import registered_environment

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder in which MLflow looks for environments."""
    monkeypatch.setenv("MLFLOW_ENV_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return tmp_path


def test_the_environment_of_mlflow_run_is_looked_for_in_this_checkout(environments: Path) -> None:
    found = examine_mlflow_run()
    assert found.state == f"no environment at {registered_environment(PROJECT)}"
    assert found.fix.startswith("run `make setup`")
    link = registered_environment(PROJECT)
    assert link.is_relative_to(environments)
    link.symlink_to(sys.prefix)
    assert examine_mlflow_run() == Diagnostic("mlflow run", f"uses {Path(sys.prefix).resolve()}")
    link.unlink()
    link.symlink_to(environments)
    other = examine_mlflow_run()
    assert other.state == f"uses {environments.resolve()}, of another checkout"
    assert other.fix


def test_all_that_the_project_installs_is_found(environments: Path) -> None:
    missing = [each.topic for each in examine() if each.fix]
    assert missing == ["mlflow run"]


def test_the_table_tells_what_is_missing_and_the_fix(capsys: pytest.CaptureFixture[str]) -> None:
    print_report([Diagnostic("MPI", "mpirun not found", "run `make setup`"), Diagnostic("Compiler", "g++ 12")])
    lines = capsys.readouterr().out.splitlines()
    assert any("missing" in line and "mpirun not found" in line and "run `make setup`" in line for line in lines)
    assert any("ok" in line and "g++ 12" in line for line in lines)
