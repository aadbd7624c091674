"""A rank that freezes where a scheduler has started the ranks, and no launcher of radflow's watches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from commands import runs_of, user_environment

from radflow.cluster.watchdog import STALLED

pytestmark = pytest.mark.slow

TRAINING = "--arch=vgg16 --epochs=200 --gbz=32 --lbz=16 --threads=1 --stall_seconds=20"


def test_the_run_of_ranks_that_wait_for_a_frozen_one_fails_with_the_reason(workplace: Path, tmp_path: Path) -> None:
    line = [Path(sys.executable).parent / "mpirun", "-np", "2", "--host", "localhost:2", "--bind-to", "none"]
    line += [sys.executable, "-m", "radflow", "distributed", f"--data={workplace / 'dataset'}", *TRAINING.split()]
    as_root = {f"{owner}_ALLOW_RUN_AS_ROOT{word}": "1" for owner in ("OMPI", "PRTE") for word in ("", "_CONFIRM")}
    environment = {**user_environment(tmp_path), **(as_root if os.geteuid() == 0 else {})}
    with subprocess.Popen(line, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as mpirun:
        wait_for_an_epoch(tmp_path, mpirun)
        rank_process(mpirun, "1").send_signal(signal.SIGSTOP)
        _, told = mpirun.communicate(timeout=120)
    assert mpirun.returncode == STALLED
    (run,) = runs_of(tmp_path)
    assert run.info.status == "FAILED"
    assert "s while waiting for other ranks" in run.data.tags["radflow.failure"]
    assert run.data.tags["radflow.failure"] in told


def wait_for_an_epoch(folder: Path, training: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not list(folder.glob("runs/*/history.jsonl")):
        assert training.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.5)


def rank_process(mpirun: subprocess.Popen[str], number: str) -> psutil.Process:
    children = psutil.Process(mpirun.pid).children(recursive=True)
    return next(child for child in children if child.environ().get("OMPI_COMM_WORLD_RANK") == number)
