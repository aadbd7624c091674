"""Plain `mlflow run`, without flags for the environment: it must find the one that `make setup` has registered."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from commands import runs_of, user_environment

from radflow.training.checkpoint import read_checkpoint

pytestmark = pytest.mark.slow


def environment_of(checkout: Path) -> dict[str, str]:
    """A user's, without PYTHONPATH: entry points start in the checkout and so import its own radflow."""
    environment = user_environment(checkout)
    del environment["PYTHONPATH"]
    return environment


def mlflow_run(checkout: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    line = ["mlflow", "run", ".", *flags]
    settings = {"cwd": checkout, "env": environment_of(checkout), "text": True}
    return subprocess.run(line, capture_output=True, check=False, timeout=600, **settings)


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


@pytest.mark.parametrize(
    ("entry", "batch"), [("train", ["-P", "bz=16"]), ("distributed", ["-P", "gbz=16", "-P", "lbz=8", "-P", "np=2"])]
)
def test_ctrl_c_leaves_a_whole_checkpoint_no_process_and_the_run_killed(
    checkout: Path, workplace: Path, entry: str, batch: list[str]
) -> None:
    """On Ctrl-C MLflow sends SIGTERM to what has received SIGINT already."""
    out = checkout / "jobs"
    line = ["mlflow", "run", ".", "-e", entry, "-P", f"data={workplace / 'dataset'}", "-P", f"out={out}", *batch]
    line += ["-P", "arch=vgg16", "-P", "epochs=1000", "-P", "checkpoint_minutes=0"]
    with (checkout / "output.log").open("wb") as log:
        settings = {"cwd": checkout, "env": environment_of(checkout), "stdout": log, "stderr": log}
        process = subprocess.Popen(line, start_new_session=True, **settings)
    while not (seen := sorted(out.glob("*/step-*.npz"))):
        assert process.poll() is None, (checkout / "output.log").read_text()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(60)
    left = [each for each in psutil.process_iter(["cmdline"]) if str(out) in " ".join(each.info["cmdline"] or [])]
    _, alive = psutil.wait_procs(left, timeout=30)
    assert alive == []
    newest = max(out.glob("*/step-*.npz"))
    assert newest >= seen[-1]
    read_checkpoint(newest)
    deadline = time.monotonic() + 30  # MLflow says FAILED at first, and is corrected when it is gone
    while runs_of(checkout)[0].info.status != "KILLED" and time.monotonic() < deadline:
        time.sleep(0.5)
    assert [run.info.status for run in runs_of(checkout)] == ["KILLED"]


def test_a_mistake_fails_the_run(checkout: Path) -> None:
    ended = mlflow_run(checkout, "-e", "train", "-P", "epochs=three")
    assert ended.returncode == 1
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "three" in errors[0]
    (run,) = runs_of(checkout)
    assert run.info.status == "FAILED"
