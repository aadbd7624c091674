"""A search with real trainings: a worker killed, a Ctrl-C, and in the end every trial counted once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml
from commands import Command, runs_of, user_environment
from mlflow.entities import Run

from radflow.config import parse
from radflow.training.config import DistributedConfig

pytestmark = pytest.mark.slow

SPACE = {
    "search": {"base_lr": {"low": 1e-5, "high": 1e-4, "log": True}, "warmup_epochs": {"low": 0.0, "high": 1.0}},
    "baseline": [{"base_lr": 5e-5, "warmup_epochs": 0.5}],
}
SEARCH = ("--data=dataset", "--space=space.yaml", "--arch=vgg16", "--epochs=2", "--min_epochs=1", "--gbz=64")


def start(workplace: Path, *flags: str) -> subprocess.Popen[str]:
    (workplace / "space.yaml").write_text(yaml.safe_dump(SPACE))
    line = [sys.executable, "-m", "entrypoints.search", *SEARCH, *flags]
    environment = user_environment(workplace)
    return subprocess.Popen(line, cwd=workplace, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def ranks_of(process: psutil.Process) -> list[psutil.Process]:
    """The processes of the training that a worker or a search has begun."""
    descendants = process.children(recursive=True)
    return descendants if any(child.name() == "mpirun" for child in descendants) else []


def test_a_killed_worker_and_a_ctrl_c_lose_nothing(workplace: Path, command: Command) -> None:
    with start(workplace, "--n_trials=3", "--workers=2") as search:
        wait_for(lambda: len(psutil.Process(search.pid).children()) == 2)
        worker = psutil.Process(search.pid).children()[0]
        wait_for(lambda: ranks_of(worker))
        orphans = ranks_of(worker)
        worker.send_signal(signal.SIGKILL)
        assert not psutil.wait_procs(orphans, timeout=60)[1]
        output = search.communicate(timeout=300)[1]
    assert search.returncode == 0, output
    assert "was killed by SIGKILL; another takes its place" in output
    assert [state for state, _ in trials_of(workplace)].count("complete") >= 1
    assert counted(workplace) == 3

    with start(workplace, "--n_trials=4") as search:
        wait_for(lambda: ranks_of(psutil.Process(search.pid)))
        processes = psutil.Process(search.pid).children(recursive=True)
        search.send_signal(signal.SIGINT)
        output = search.communicate(timeout=120)[1]
    assert search.returncode == 130, output
    assert "stopped: received SIGINT" in output
    assert not psutil.wait_procs(processes, timeout=10)[1]
    assert parent_of(workplace).info.status == "KILLED"
    assert counted(workplace) == 3

    ended = command("search", *SEARCH, "--n_trials=4")
    assert ended.returncode == 0, ended.stderr
    assert counted(workplace) == 4
    parent = parent_of(workplace)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["search/best_val_auc"] == max(score for _, score in trials_of(workplace))

    # What a trial must not do: look at test films, log a model, stay RUNNING.
    for run in children_of(workplace):
        assert not run.outputs.model_outputs
        assert not any(key.startswith("test/") for key in run.data.metrics)
        assert run.info.status in ("FINISHED", "FAILED", "KILLED")
    (best,) = workplace.glob("runs/vgg16-gbz64-space-*/best.yaml")
    assert parse(DistributedConfig, [f"--config={best}"]).model.arch == "vgg16"
    mistaken = command("search", *SEARCH[:-1], "--gbz=100", "--np=2")
    assert mistaken.returncode == 2
    assert mistaken.stderr.splitlines()[-1].startswith("error: gbz=100 does not divide")


def parent_of(workplace: Path) -> Run:
    (run,) = [run for run in runs_of(workplace) if "radflow.best_trial" in run.data.tags]
    return run


def children_of(workplace: Path) -> list[Run]:
    parent = parent_of(workplace).info.run_id
    return [run for run in runs_of(workplace) if run.data.tags.get("mlflow.parentRunId") == parent]


def trials_of(workplace: Path) -> list[tuple[str, float]]:
    """State and score of each trial's run."""
    return [
        (run.data.tags["radflow.trial_state"], run.data.metrics.get("best/val_auc", 0.0))
        for run in children_of(workplace)
    ]


def counted(workplace: Path) -> int:
    """Trials that count: all but those that were run again."""
    again = [run for run in children_of(workplace) if "again" in run.data.tags.get("radflow.failure", "")]
    return len(children_of(workplace)) - len(again)
