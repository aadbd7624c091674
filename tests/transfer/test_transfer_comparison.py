"""The order of a comparison: equal terms, runs side by side, and nothing done twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from trained import trained

from radflow.data.seen_patients import Leakage
from radflow.errors import JobError, UserError
from radflow.evaluation.predictions import write_predictions
from radflow.optim.config import OptimizerConfig
from radflow.training import own_run
from radflow.training.child_process import Ended, Epoch
from radflow.training.job_folder import mark_finished
from radflow.transfer import comparison
from radflow.transfer.comparison import arm_config, compare, study_name
from radflow.transfer.config import TransferConfig, TransferOptimizerConfig

DATASET = SimpleNamespace(path="crops", name="phantom_mammograms", digest="abc", findings=("Tumour",))


def train_in_no_time(
    command: list[str],
    folder: Path,
    variables: Mapping[str, str],
    should_continue: Callable[[Epoch], bool],
    on_poll: Callable[[], None],
) -> Ended:
    """Leave behind what a training does, or end as one does that fails, where a file says so."""
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in command[4:])
    seed = int(flags.get("seed", 0))
    with Path("calls.jsonl").open("a") as calls:
        calls.write(json.dumps(flags) + "\n")
    if Path("mistake").exists():
        return Ended(2, was_stopped=False, last_line="error: data=nowhere holds no films")
    if Path("failure").exists() and seed == 1:
        return Ended(1, was_stopped=False, last_line="failed: the loss is not finite")
    done = trained("scratch" if flags["source"] == "none" else "pretrained", seed, [0.7, 0.8], 2.0)
    job = Path(flags["out"]) / "job"
    job.mkdir(parents=True)
    (job / "job.json").write_text(json.dumps({"run_id": variables["MLFLOW_RUN_ID"], "settings": {}}))
    (job / "history.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in done.history))
    (job / "best.npz").write_bytes(b"weights")
    write_predictions(job / "predictions.parquet", done.predictions)
    mark_finished(job)
    client = MlflowClient()
    client.set_terminated(variables["MLFLOW_RUN_ID"])
    assert all(should_continue(epoch) for epoch in done.history)
    return Ended(0, was_stopped=False, last_line="")


@pytest.fixture(autouse=True)
def fake_trainings(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_run, "follow_training", train_in_no_time)
    monkeypatch.setattr(comparison, "check_weights", lambda model: None)
    nobody = Leakage("test", patients=40, trained=0, validated=0, unknown=())
    seen = SimpleNamespace(leakage=lambda dataset, split: nobody)
    monkeypatch.setattr(comparison, "patients_seen_by", lambda weights: seen)


def config(**settings: object) -> TransferConfig:
    return TransferConfig(source="compare", pretrained="body.weights.h5", seeds=2, **settings)


def calls() -> list[dict[str, str]]:
    path = Path("calls.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def runs(store: MlflowClient) -> list[Run]:
    return list(store.search_runs([experiment.experiment_id for experiment in store.search_experiments()]))


def artifacts(store: MlflowClient, run: Run, folder: str = "") -> set[str]:
    return {entry.path for entry in store.list_artifacts(run.info.run_id, folder)}


def test_each_half_is_trained_with_each_seed_on_equal_terms(store: MlflowClient) -> None:
    compare(config(), DATASET)
    told = calls()
    assert [(call["source"], call.get("seed", "0")) for call in told] == [
        ("body.weights.h5", "0"), ("none", "0"), ("body.weights.h5", "1"), ("none", "1"),
    ]  # fmt: skip
    shared = [{name: value for name, value in call.items() if name not in ("source", "out", "seed")} for call in told]
    assert all(each == shared[0] for each in shared)


def test_runs_are_siblings_of_one_study_and_the_comparison_holds_the_answer(store: MlflowClient) -> None:
    compare(config(), DATASET)
    by_kind = {run.data.tags.get("radflow.kind", "training"): run for run in runs(store)}
    children = [run for run in runs(store) if "radflow.arm" in run.data.tags]
    assert len(children) == 4
    assert len({run.data.tags["radflow.study"] for run in runs(store)}) == 1
    assert not any("mlflow.parentRunId" in run.data.tags for run in runs(store))
    study = by_kind["transfer-compare"]
    assert study.info.status == "FINISHED"
    assert artifacts(store, study) >= {"comparison.json", "conclusion.md", "figures"}
    assert artifacts(store, study, "figures") == {
        "figures/validation_loss.png", "figures/validation_auc.png", "figures/throughput.png",
    }  # fmt: skip
    assert study.data.metrics["compare/epochs_to_target/pretrained"] == 2
    assert "no evidence" in study.data.tags["mlflow.note.content"]
    assert "test auc per lesion" in study.data.tags["mlflow.note.content"]


def test_the_same_command_does_not_repeat_what_is_finished(store: MlflowClient) -> None:
    Path("failure").touch()
    with pytest.raises(JobError, match="pretrained, seed 1 ended with exit code 1: failed: the loss is not finite"):
        compare(config(), DATASET)
    assert [run.info.status for run in runs(store) if "radflow.kind" in run.data.tags] == ["FAILED"]
    Path("failure").unlink()
    compare(config(), DATASET)
    assert len(calls()) == 3 + 2
    assert [run.info.status for run in runs(store) if "radflow.kind" in run.data.tags] == ["FINISHED"]
    before = len(runs(store))
    compare(config(), DATASET)
    assert (len(calls()), len(runs(store))) == (5, before)


def test_more_seeds_add_to_the_study(store: MlflowClient) -> None:
    compare(config(), DATASET)
    more = TransferConfig(source="compare", pretrained="body.weights.h5", seeds=3)
    compare(more, DATASET)
    assert [call.get("seed", "0") for call in calls()] == ["0", "0", "1", "1", "2", "2"]


def test_finished_trainings_keep_no_checkpoints() -> None:
    compare(config(), DATASET)
    assert not list(Path("runs").rglob("*.npz"))


def test_a_mistake_of_a_training_is_the_comparisons() -> None:
    Path("mistake").touch()
    with pytest.raises(UserError, match="data=nowhere holds no films"):
        compare(config(), DATASET)


def test_the_body_from_scratch_is_neither_frozen_nor_slowed() -> None:
    told = config(optim=TransferOptimizerConfig(body_lr_factor=0.1, frozen_epochs=2))
    pretrained, scratch = (arm_config(told, arm, 5, Path("out")) for arm in ("pretrained", "scratch"))
    assert (pretrained.optim.body_lr_factor, pretrained.optim.frozen_epochs) == (0.1, 2)
    assert (scratch.optim.body_lr_factor, scratch.optim.frozen_epochs) == (1, 0)
    assert pretrained.seed == scratch.seed == 5
    assert isinstance(scratch.optim, OptimizerConfig)


def test_another_body_data_set_or_budget_is_another_study() -> None:
    name = study_name(config(), "abc")
    assert study_name(config(seed=3, out="elsewhere", threads=1), "abc") == name
    others = [
        study_name(config(), "other digest"),
        study_name(config(epochs=3), "abc"),
        study_name(config(gbz=32), "abc"),
    ]
    assert len({name, *others}) == 4
