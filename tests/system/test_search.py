"""A search with real trainings, one of its workers killed; and with trainings that only pretend, a Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from commands import Command, runs_of, user_environment
from mlflow.entities import Run

from radflow.config import parse
from radflow.training.config import DistributedConfig

pytestmark = pytest.mark.long

SPACE = {
    "search": {"base_lr": {"low": 1e-5, "high": 1e-4, "log": True}, "warmup_epochs": {"low": 0.0, "high": 1.0}},
    "baseline": [{"base_lr": 5e-5, "warmup_epochs": 0.5}],
}
SEARCH = ("--data=dataset", "--space=space.yaml", "--arch=vgg16", "--gbz=64")


def start(workplace: Path, *flags: str) -> subprocess.Popen[str]:
    (workplace / "space.yaml").write_text(yaml.safe_dump(SPACE))
    line = [sys.executable, "-m", "radflow", "search", *SEARCH, *flags]
    return subprocess.Popen(line, cwd=workplace, env=user_environment(workplace), stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def training_below(process: psutil.Process, processes: int) -> list[psutil.Process]:
    """All processes below a worker or a search, once so many of them belong to a training."""
    descendants = process.children(recursive=True)
    with suppress(psutil.NoSuchProcess):
        if sum("distributed" in child.cmdline() for child in descendants) >= processes:
            return descendants
    return []


def test_a_killed_worker_takes_its_training_with_it_and_loses_nothing(workplace: Path, command: Command) -> None:
    with start(workplace, "--n_trials=2", "--workers=2", "--epochs=1") as search:
        wait_for(lambda: len(psutil.Process(search.pid).children()) == 2)
        worker = psutil.Process(search.pid).children()[0]
        wait_for(lambda: training_below(worker, processes=3))  # entry point, mpirun, rank
        orphans = worker.children(recursive=True)
        worker.send_signal(signal.SIGKILL)
        assert not psutil.wait_procs(orphans, timeout=60)[1]
        output = search.communicate(timeout=300)[1]
    assert search.returncode == 0, output
    assert "was killed by SIGKILL; another takes its place" in output
    parent = parent_of(workplace)
    assert parent.info.status == "FINISHED"
    assert sorted(state for state, _ in trials_of(workplace)) == ["complete", "complete", "failed"]
    assert parent.data.metrics["search/trials/complete"] == 2
    assert parent.data.metrics["search/trials/failed"] == 0
    assert parent.data.metrics["search/best_val_auc"] == max(score for _, score in trials_of(workplace))
    # What a trial must not do: look at test films, log a model, stay RUNNING.
    for run in children_of(workplace):
        assert not run.outputs.model_outputs
        assert not any(key.startswith("test/") for key in run.data.metrics)
        assert run.info.status in ("FINISHED", "FAILED")
    (best,) = workplace.glob("runs/vgg16-gbz64-space-*/best.yaml")
    assert parse(DistributedConfig, [f"--config={best}"]).model.arch == "vgg16"

    mistaken = command("search", *SEARCH[:-1], "--gbz=101", "--np=2")
    assert mistaken.returncode == 2
    assert mistaken.stderr.splitlines()[-1].startswith("error: gbz=101 is not divisible")


def test_a_search_that_was_stopped_goes_on_where_it_was(workplace: Path, tmp_path: Path) -> None:
    (tmp_path / "dataset").symlink_to(workplace / "dataset")
    flags = ("--n_trials=3", "--epochs=2")

    with start(tmp_path, *flags) as search:
        wait_for(lambda: training_below(psutil.Process(search.pid), processes=3))
        processes = psutil.Process(search.pid).children(recursive=True)
        search.send_signal(signal.SIGINT)
        output = search.communicate(timeout=120)[1]
    assert search.returncode == 130, output
    assert "stopped: received SIGINT" in output
    assert not psutil.wait_procs(processes, timeout=10)[1]
    (study_run,) = [run for run in runs_of(tmp_path) if "mlflow.parentRunId" not in run.data.tags]
    assert study_run.info.status == "KILLED"

    with start(tmp_path, *flags) as search:
        output = search.communicate(timeout=300)[1]
    assert search.returncode == 0, output
    parent = parent_of(tmp_path)
    assert parent.info.run_id == study_run.info.run_id
    assert parent.info.status == "FINISHED"
    assert [state for state, _ in trials_of(tmp_path)].count("complete") == 3
    (stopped,) = [run for run in children_of(tmp_path) if run.data.tags["radflow.trial_state"] == "failed"]
    assert stopped.data.tags["radflow.failure"] == "received SIGTERM; the trial will be run again"


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
