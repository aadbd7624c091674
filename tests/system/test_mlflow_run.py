"""Plain `mlflow run`, without flags for the environment: it must find the one that `make setup` has registered."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from commands import runs_of, user_environment

pytestmark = pytest.mark.slow


def mlflow_run(checkout: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    environment = user_environment(checkout)
    # Entry points start in the checkout and so import its own radflow, whatever checkout the environment belongs to.
    del environment["PYTHONPATH"]
    line = ["mlflow", "run", ".", *flags]
    return subprocess.run(line, cwd=checkout, env=environment, capture_output=True, text=True, check=False, timeout=600)


def test_a_large_global_batch_without_any_other_flag(checkout: Path, workplace: Path) -> None:
    data = f"data={workplace / 'dataset'}"
    quick = ("-P", "epochs=1", "-P", "arch=vgg16")
    ended = mlflow_run(checkout, "-e", "distributed", "-P", "gbz=4096", "-P", data, *quick)
    assert ended.returncode == 0, ended.stderr
    (run,) = runs_of(checkout)
    assert run.info.status == "FINISHED"
    params = run.data.params
    assert int(params["cfg/ranks"]) * int(params["cfg/local_batch"]) * int(params["cfg/micro_steps"]) == 4096
    assert int(params["cfg/ranks"]) >= 2
    assert int(params["cfg/micro_steps"]) > 1
    assert params["gbz"].strip("'") == "4096"


def test_a_mistake_fails_the_run(checkout: Path) -> None:
    ended = mlflow_run(checkout, "-e", "train", "-P", "epochs=three")
    assert ended.returncode == 1
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "three" in errors[0]
    (run,) = runs_of(checkout)
    assert run.info.status == "FAILED"
