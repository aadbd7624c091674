"""A worker with fake trainings: what becomes of its trials in the study and in MLflow."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import TrialState

from radflow.config import command_line, parse
from radflow.cpu import cores_of
from radflow.errors import UserError
from radflow.search.config import SearchConfig
from radflow.search.report import SearchReport
from radflow.search.runs import parent_run
from radflow.search.settings import shared_settings
from radflow.search.space import parse_space
from radflow.search.storage import study_storage
from radflow.search.study import create_or_load_study, ended_trials
from radflow.search.worker import Worker
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.run import resume_run, tracking_run
from radflow.training.config import DistributedConfig

FAKE = [sys.executable, str(Path(__file__).parents[1] / "helpers" / "fake_training.py")]
# The best, three that lag behind it, one that diverges.
RATES = [1e-5, 2e-5, 5e-6, 3e-5, 1e-8, 1e-3]


def fake_command(training: DistributedConfig) -> list[str]:
    return [*FAKE, *command_line(training)]


class Search:
    """A search in the working folder, its workers called one after the other in this process."""

    def __init__(self, content: dict, **parameters: object) -> None:
        self.config = SearchConfig(study="study", epochs=6, min_epochs=2, seed=3, **parameters)
        self.space = parse_space(content)
        self.folder = Path("runs/study")
        self.storage = study_storage("journal", self.folder)
        prepare_tracking()
        with self.storage.exclusive():
            baseline = self.space.baseline_params(shared_settings(self.config))
            self.study = create_or_load_study("study", self.storage, {"space": content}, baseline)
            self.parent = parent_run(self.study, "study")
        resume_run(self.parent)
        del os.environ["MLFLOW_RUN_ID"]  # as tracking_run does

    def work(self) -> None:
        Worker(self.config, "study", self.storage, self.folder, fake_command).work()

    def states(self) -> list[str]:
        return [trial.state.name for trial in ended_trials(self.study)]


@pytest.fixture(scope="module")
def content() -> dict:
    search = {"base_lr": {"low": 1e-8, "high": 1e-2, "log": True}, "warmup_epochs": {"low": 0.0, "high": 2.0}}
    return {"search": search, "baseline": [{"base_lr": rate, "warmup_epochs": 1.0} for rate in RATES]}


def test_trials_end_as_they_did_in_the_study_and_in_mlflow(store: MlflowClient, content: dict, monkeypatch) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "0.1")
    search = Search(content, n_trials=6)
    search.work()
    assert search.states() == ["COMPLETE", "COMPLETE", "COMPLETE", "COMPLETE", "PRUNED", "FAIL"]
    assert search.study.best_trial.params["base_lr"] == 1e-5
    # The AUC of the fake at its sixth and last epoch, which is its best.
    assert search.study.best_value == pytest.approx(0.5 + 0.4 * (1 - 0.5**6))

    runs = children(store, search.parent)
    assert [run.data.tags["radflow.trial_state"] for run in runs] == ["complete"] * 4 + ["pruned", "failed"]
    assert runs[4].info.status == "KILLED"
    assert "pruned after epoch 2" in runs[4].data.tags["radflow.failure"]
    assert runs[5].info.status == "FAILED"
    assert "the loss is not finite" in runs[5].data.tags["radflow.failure"]
    assert not list(search.folder.glob("trial-*/job"))


def test_the_report_holds_the_best_setting_as_distributed_takes_it(store: MlflowClient, content: dict) -> None:
    search = Search(content, n_trials=7, gbz=96, pruner="none")
    search.work()
    with tracking_run("study", {}) as run:
        report = SearchReport(search.study, search.config, search.space, search.folder, run)
        report.update()
        report.conclude()
        run_id = run.run_id
    best = parse(DistributedConfig, [f"--config={search.folder / 'best.yaml'}"])
    assert best.optim.base_lr == search.study.best_trial.params["base_lr"]
    assert (best.gbz, best.epochs, best.seed, best.assess, best.out) == (96, 6, 3, True, "runs")
    logged = {item.path for folder in ("", "figures") for item in store.list_artifacts(run_id, folder)}
    figures = {f"figures/{name}.png" for name in ("history", "importances", "parallel", "slice")}
    assert logged == {"best.yaml", "trials.json", "figures"} | figures
    metrics = store.get_run(run_id).data.metrics
    assert metrics["search/trials/complete"] == search.states().count("COMPLETE")
    assert metrics["search/best_val_auc"] == search.study.best_value


def test_a_mistake_stops_the_worker_and_leaves_the_trial_for_later(store: MlflowClient) -> None:
    momentum = {"optimizer": {"choices": ["sgd"]}, "momentum": {"choices": [0.5]}, "base_lr": {"low": 0.1, "high": 0.2}}
    search = Search({"search": momentum}, n_trials=3)
    with pytest.raises(UserError, match=r"momentum=0\.5 is not to be had"):
        search.work()
    assert search.states() == []
    waiting = search.study.get_trials(states=(TrialState.WAITING,))
    assert [trial.system_attrs["fixed_params"].keys() for trial in waiting] == [{"base_lr"}]


def test_a_continued_search_goes_on_in_the_same_parent_run(store: MlflowClient, content: dict, monkeypatch) -> None:
    first = Search(content, n_trials=2)
    first.work()
    other = store.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", other.info.run_id)
    second = Search(content, n_trials=3)
    second.work()
    assert second.parent == first.parent
    assert first.parent in store.get_run(other.info.run_id).data.tags["mlflow.note.content"]
    assert len(children(store, first.parent)) == 3


@pytest.mark.parametrize(
    ("workers", "cores", "expected"),
    [
        (1, [0, 1], [[0, 1]]),
        (2, [0, 1], [[0], [1]]),
        (3, [0, 1], [[0], [1], [0]]),
        (2, [4, 5, 6, 7, 8], [[4, 5], [6, 7, 8]]),
    ],
)
def test_workers_share_the_cores(workers: int, cores: list[int], expected: list[list[int]]) -> None:
    assert [cores_of(worker, workers, cores) for worker in range(workers)] == expected


def children(store: MlflowClient, parent: str) -> list[Run]:
    """The runs of a search's trials, by number."""
    experiments = [experiment.experiment_id for experiment in store.search_experiments()]
    runs = store.search_runs(experiments, f"tags.`mlflow.parentRunId` = '{parent}'")
    return sorted(runs, key=lambda run: int(run.data.tags["radflow.trial"]))


optuna.logging.set_verbosity(optuna.logging.WARNING)
