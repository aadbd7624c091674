"""A study from the plan to the report: nothing trained twice, what diverges is marked, and what fails is not lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_datasets
from mlflow import MlflowClient
from mlflow.entities import Run
from study_cells import judged

from radflow.commands import study as command
from radflow.commands.claims import claims
from radflow.commands.study import study
from radflow.errors import JobError, UserError
from radflow.evaluation.predictions import write_predictions
from radflow.studies.config import StudyConfig
from radflow.studies.experiment import Arm, Experiment, Protocol
from radflow.studies.experiments import table
from radflow.studies.outcome import LOSS, Outcome
from radflow.studies.verdicts import Evidence, more_accurate, trend
from radflow.training import own_run
from radflow.training.child_process import Ended, Epoch
from radflow.training.job_folder import mark_finished

ARMS = (Arm("small", {"gbz": 8}), Arm("middle", {"gbz": 16}), Arm("large", {"gbz": 32}))
SKILLS = {"8": 2.0, "16": 1.4, "32": 0.5}


def judge(outcome: Outcome) -> list[Evidence]:
    names = [arm.name for arm in ARMS]
    return [
        more_accurate("Small batches are better.", outcome, "small", "large"),
        trend("Loss rises.", outcome, names, {name: outcome.best(name, LOSS) for name in names}, True),
    ]


EXPERIMENT = Experiment(
    title="Batches",
    source="nowhere",
    description="What it is about.\n\n    study -P name=batch-size\n",
    paper="A figure.",
    reduced=Protocol(ARMS, seeds=2, settings={"epochs": 3}),
    full=Protocol(ARMS, seeds=2, settings={"epochs": 30}),
    judge=judge,
    draw=lambda outcome: {},
)


def train_in_no_time(
    command_line: list[str],
    folder: Path,
    variables: Mapping[str, str],
    should_continue: Callable[[Epoch], bool],
    on_poll: Callable[[], None],
) -> Ended:
    """Leave behind what a training does, or end as one does that diverges or fails, where a file says so."""
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in command_line[4:])
    batch, seed = flags["gbz"], int(flags.get("seed", 0))
    with Path("calls.jsonl").open("a") as calls:
        calls.write(json.dumps(flags) + "\n")
    if Path(f"mistake-{batch}").exists():
        return Ended(2, was_stopped=False, last_line="error: data=nowhere holds no films")
    if Path(f"failure-{batch}").exists():
        return Ended(1, was_stopped=False, last_line="failed: the disk is full")
    if Path(f"divergence-{batch}").exists():
        return Ended(1, was_stopped=False, last_line="failed: the loss is not finite in epoch 1, step 3, at ...")
    job = folder / "job"
    job.mkdir(parents=True)
    epochs = [{"epoch": float(each), LOSS: float(batch) / each, "val/auc/mean": 0.6} for each in (1, 2, 3)]
    (job / "job.json").write_text(json.dumps({"run_id": variables["MLFLOW_RUN_ID"], "settings": {"optimizer": "adam"}}))
    (job / "history.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    (job / "best.npz").write_bytes(b"weights")
    write_predictions(job / "predictions.parquet", judged(SKILLS[batch], seed))
    mark_finished(job)
    MlflowClient().set_terminated(variables["MLFLOW_RUN_ID"])
    return Ended(0, was_stopped=False, last_line="")


@pytest.fixture(autouse=True)
def fake_trainings(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_run, "follow_training", train_in_no_time)
    monkeypatch.setattr(command, "experiment", lambda name: EXPERIMENT)


@pytest.fixture
def config(store: MlflowClient) -> StudyConfig:
    return StudyConfig(scale="data", data=str(small_datasets.write(Path("films"), size=32).path), np=1)


def calls() -> list[dict[str, str]]:
    path = Path("calls.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def runs(store: MlflowClient, **tags: str) -> list[Run]:
    found = store.search_runs([experiment.experiment_id for experiment in store.search_experiments()])
    return [run for run in found if all(run.data.tags.get(f"radflow.{name}") == tags[name] for name in tags)]


def artifacts(store: MlflowClient, run: Run, folder: str = "") -> set[str]:
    return {entry.path for entry in store.list_artifacts(run.info.run_id, folder)}


def test_all_cells_are_siblings_of_one_study_whose_run_holds_the_answer(
    store: MlflowClient, config: StudyConfig
) -> None:
    study(config)
    assert [(call["gbz"], call.get("seed", "0")) for call in calls()] == [
        ("8", "0"), ("8", "1"), ("16", "0"), ("16", "1"), ("32", "0"), ("32", "1"),
    ]  # fmt: skip
    (report,) = runs(store, kind="study")
    cells = [run for run in runs(store, study="batch-size") if "radflow.cell" in run.data.tags]
    assert {run.data.tags["radflow.study.batch-size"] for run in cells} >= {"small, seed 0", "large, seed 1"}
    assert len(cells) == 6
    assert not any("mlflow.parentRunId" in run.data.tags for run in cells)
    assert report.info.status == "FINISHED"
    assert artifacts(store, report) >= {"claims.json", "report.html", "cells.json", "epochs.json", "data"}
    assert artifacts(store, report, "data") == {
        f"data/{name}.{kind}" for name in ("cells", "epochs") for kind in ("csv", "parquet")
    }
    assert report.data.metrics["study/cells/finished"] == 6
    assert report.data.metrics["study/claims/reproduced"] >= 1
    assert "Small batches are better. | reproduced" in report.data.tags["mlflow.note.content"]
    (page,) = Path("studies").glob("*/report.html")
    assert "of 32 px," in page.read_text()


def test_the_tables_say_what_each_cell_came_to(config: StudyConfig) -> None:
    study(config)
    (folder,) = Path("studies").glob("batch-size-data-*")
    cells, epochs = pd.read_parquet(folder / "cells.parquet"), pd.read_csv(folder / "epochs.csv")
    assert list(cells["arm"]) == ["small"] * 2 + ["middle"] * 2 + ["large"] * 2
    assert cells["best_val_loss"].tolist() == pytest.approx([8 / 3] * 2 + [16 / 3] * 2 + [32 / 3] * 2)
    by_finding = [column for column in cells if column.startswith("test_auc_")]
    assert np.allclose(cells["test_auc"], cells[by_finding].mean(axis=1))
    assert len(epochs) == 6 * 3
    assert pd.read_csv(folder / "cells.csv")["test_auc"].tolist() == pytest.approx(cells["test_auc"].tolist())


def test_the_same_command_trains_nothing_again_and_reports_in_the_same_run(
    store: MlflowClient, config: StudyConfig
) -> None:
    study(config)
    before = len(runs(store))
    study(config)
    assert (len(calls()), len(runs(store))) == (6, before)


def test_another_study_takes_the_cells_that_are_the_same(
    store: MlflowClient, config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    study(config)
    other = replace(EXPERIMENT, reduced=Protocol((Arm("yardstick", {"gbz": 8}), Arm("new", {"gbz": 16, "seed": 5})), 1))
    other = replace(other, reduced=replace(other.reduced, settings={"epochs": 3}), judge=lambda outcome: [])
    monkeypatch.setattr(command, "experiment", lambda name: other)
    study(replace(config, name="topology"))
    assert len(calls()) == 6
    shared = [run for run in runs(store, cell="small") if "radflow.study.topology" in run.data.tags]
    assert [run.data.tags["radflow.study.topology"] for run in shared] == ["yardstick, seed 0"]


def test_a_cell_that_diverges_is_marked_and_the_study_goes_on(store: MlflowClient, config: StudyConfig) -> None:
    Path("divergence-16").touch()
    study(config)
    (report,) = runs(store, kind="study")
    assert report.info.status == "FINISHED"
    assert report.data.metrics["study/cells/diverged"] == 2
    (folder,) = Path("studies").glob("batch-size-data-*")
    assert pd.read_csv(folder / "cells.csv")["state"].tolist() == ["finished"] * 2 + ["diverged"] * 2 + ["finished"] * 2
    assert "middle, seed 0" in (folder / "report.html").read_text()
    Path("divergence-16").unlink()
    study(config)
    assert len(calls()) == 6  # what has diverged once is not trained again


def test_a_failure_keeps_what_is_finished_and_the_same_command_goes_on(
    store: MlflowClient, config: StudyConfig
) -> None:
    Path("failure-16").touch()
    with pytest.raises(JobError, match="middle, seed 0 ended with exit code 1: failed: the disk is full"):
        study(config)
    assert [run.info.status for run in runs(store, kind="study")] == ["FAILED"]
    Path("failure-16").unlink()
    done = len(calls())
    study(config)
    assert [run.info.status for run in runs(store, kind="study")] == ["FINISHED"]
    assert [call["gbz"] for call in calls()[done:]].count("8") == 0


def test_a_training_that_was_killed_before_it_began_leaves_no_run_open(
    store: MlflowClient, config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kill -9 between the making of a cell's run and the first word of its training."""

    def die(*_: object) -> Ended:
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(own_run, "follow_training", die)
        patch.setattr(own_run, "close_abandoned_run", lambda *_, **__: None)
        study(config)
    study(config)
    assert len([run for run in runs(store) if "radflow.cell" in run.data.tags]) == 6
    assert {run.info.status for run in runs(store)} == {"FINISHED"}


def test_a_mistake_of_a_training_is_the_studys(config: StudyConfig) -> None:
    Path("mistake-8").touch()
    with pytest.raises(UserError, match="data=nowhere holds no films"):
        study(config)


def test_two_at_a_time_are_the_same_cells(store: MlflowClient, config: StudyConfig) -> None:
    study(replace(config, workers=2))
    assert sorted((call["gbz"], call.get("seed", "0")) for call in calls()) == sorted(
        (str(arm.settings["gbz"]), str(seed)) for arm in ARMS for seed in (0, 1)
    )
    (report,) = runs(store, kind="study")
    assert report.data.metrics["study/cells/finished"] == 6


@pytest.mark.parametrize("workers", [1, 2])
def test_the_plan_has_the_ranks_that_each_of_several_trainings_gets(
    config: StudyConfig, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    cores = sorted(os.sched_getaffinity(0))[:2]
    with ThreadPoolExecutor(1, initializer=os.sched_setaffinity, initargs=(0, cores)) as two_cores:
        two_cores.submit(study, replace(config, np="auto", workers=workers)).result()
    ranks = len(cores) // workers or 1
    assert f"{ranks} x {8 // ranks} x 1" in capsys.readouterr().out


def test_a_cell_of_another_number_of_ranks_is_another_cell(config: StudyConfig) -> None:
    cores = sorted(os.sched_getaffinity(0))[:2]
    with ThreadPoolExecutor(1, initializer=os.sched_setaffinity, initargs=(0, cores)) as two_cores:
        for workers in (1, 2, 2):
            two_cores.submit(study, replace(config, np="auto", workers=workers)).result()
    assert len(calls()) == 6 * len(cores)


def test_cells_that_are_the_same_under_two_names_are_trained_once(
    config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = tuple(Arm(name, {"gbz": 8}) for name in ("one", "other"))
    twice = replace(EXPERIMENT, reduced=Protocol(arms, 2, {"epochs": 3}), judge=lambda _: [])
    monkeypatch.setattr(command, "experiment", lambda name: twice)
    study(replace(config, workers=2))
    assert len(calls()) == 2


def test_counts_of_two_datasets_are_two_studies(config: StudyConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    counted_only = replace(EXPERIMENT, reduced=Protocol((), 0), judge=lambda _: [])
    monkeypatch.setattr(command, "experiment", lambda name: counted_only)
    study(config)
    study(replace(config, data=str(small_datasets.write(Path("others"), films=60, size=32).path)))
    assert len(list(Path("studies").glob("batch-size-data-*"))) == 2


def test_films_that_are_not_labelled_for_what_it_is_about_are_refused(
    config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "experiment", lambda name: replace(EXPERIMENT, findings=("Cough", "Fever")))
    with pytest.raises(UserError, match=r"films is not labelled for Cough, Fever, which name=batch-size is about"):
        study(config)
    assert calls() == []


def test_an_arm_that_needs_larger_films_is_left_out_and_named(
    config: StudyConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    arms = (ARMS[0], Arm("sharp", {"gbz": 16}, smallest_films=4096))
    monkeypatch.setattr(
        command, "experiment", lambda name: replace(EXPERIMENT, reduced=Protocol(arms, 1), judge=lambda _: [])
    )
    study(config)
    assert [call["gbz"] for call in calls()] == ["8"]
    assert "sharp is left out: it takes films of 4096 px or more" in caplog.text


def test_more_threads_than_cores_are_left_out_or_refused(
    config: StudyConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    arms = (ARMS[0], Arm("many threads", {"gbz": 16, "threads": 4096}))
    monkeypatch.setattr(
        command, "experiment", lambda name: replace(EXPERIMENT, reduced=Protocol(arms, 1), judge=lambda _: [])
    )
    study(config)
    assert [call["gbz"] for call in calls()] == ["8"]
    assert "arms of 4096 threads are left out" in caplog.text
    monkeypatch.setattr(command, "experiment", lambda name: replace(EXPERIMENT, reduced=Protocol(arms[1:], 1)))
    with pytest.raises(UserError, match="wants more threads"):
        study(config)


def test_epochs_and_seeds_of_the_user_win(config: StudyConfig) -> None:
    study(replace(config, seeds=1, epochs=2))
    assert [(call["gbz"], call["epochs"]) for call in calls()] == [("8", "2"), ("16", "2"), ("32", "2")]


def test_claims_of_an_empty_store_are_none_and_the_missing_studies_are_named(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    claims(Path("claims.md"))
    assert capsys.readouterr().out == ""
    assert f"not finished yet: {', '.join(table.EXPERIMENTS)}" in caplog.text


def test_claims_are_those_of_the_newest_finished_run_of_each_study(
    config: StudyConfig, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    Path("failure-32").touch()
    with pytest.raises(JobError):
        study(config)
    claims(None)
    assert "Small batches" not in capsys.readouterr().out  # half done
    Path("failure-32").unlink()
    study(config)
    study(replace(config, name="topology"))
    capsys.readouterr()
    claims(Path("claims.md"))
    printed = capsys.readouterr().out
    assert printed.count("Small batches are better.") == 2
    assert "2 studies: " in caplog.text
    rows = Path("claims.md").read_text().splitlines()[2:]
    assert len(rows) == 4
    assert rows[0].startswith("| batch-size, data, ")
