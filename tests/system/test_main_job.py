"""The main job as a user runs it: train, promote, evaluate, predict; and how runs end that are stopped."""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from commands import REPOSITORY, Command, run_entry_point, runs_of, user_environment
from mlflow import MlflowClient
from sklearn.metrics import roc_auc_score

from radflow.commands.plan import plan_of
from radflow.data.readers.chestxray14 import FINDINGS
from radflow.training.plan import plan_rows

pytestmark = pytest.mark.slow

TRAINING = (
    "--epochs=2",
    "--gbz=32",
    "--gbz_schedule=16:1",
    "--lbz=8",
    "--np=2",
    "--base_lr=0.0002",
    "--lr_scaling=linear",
)


@pytest.fixture(scope="module")
def trained(workplace: Path) -> Path:
    """The workplace after a training on two ranks, whose terminal output lies in output.txt."""
    ended = run_entry_point(workplace, "distributed", "--data=dataset", *TRAINING)
    assert ended.returncode == 0, ended.stderr
    (workplace / "output.txt").write_text(ended.stdout + ended.stderr)
    return workplace


def test_a_distributed_job_is_one_run_with_all_that_a_user_compares(trained: Path) -> None:
    (run,) = [run for run in runs_of(trained) if run.data.tags.get("radflow.arch") == "densenet121"]
    assert run.info.status == "FINISHED"
    expected = {"gbz": "32", "lbz": "8", "ranks": "2", "micro_steps": "2", "arch": "densenet121"}
    assert {name: run.data.params[f"cfg/{name}"] for name in expected} == expected
    films = int(run.data.params["cfg/effective_gbz"])
    assert float(run.data.params["cfg/peak_lr"]) == pytest.approx(0.0002 * films / 8)
    for key in ("val/auc/mean", "throughput/images_per_second", "throughput/seconds_per_epoch", "train/loss"):
        history = client(trained).get_metric_history(run.info.run_id, key)
        assert [point.step for point in history] == [1, 2]
    # The first section of the run's charts is a curve too: the best so far.
    scores, best = (
        [point.value for point in client(trained).get_metric_history(run.info.run_id, key)]
        for key in ("val/auc/mean", "best/val_auc")
    )
    assert best == [scores[0], max(scores)]
    assert {f"test/auc/{finding}" for finding in FINDINGS} <= run.data.metrics.keys()
    assert any(key.startswith("system/") for key in run.data.metrics)
    assert [(item.dataset.name, item.tags[0].value) for item in run.inputs.dataset_inputs] == [
        ("phantoms/train", "training"),
        ("phantoms/val", "validation"),
        ("phantoms/test", "testing"),
    ]
    assert "AUC" in run.data.tags["mlflow.note.content"]
    artifacts = {item.path for folder in ("figures", "predictions") for item in artifacts_in(trained, run, folder)}
    assert artifacts == {
        "figures/auc_test.png",
        "figures/roc_test.png",
        "figures/reliability_test.png",
        "figures/subgroups_test.png",
        "figures/learning_curves.png",
        "figures/learning_rate.png",
        "predictions/predictions.parquet",
        "predictions/evaluation.csv",
        "predictions/subgroups.csv",
        "predictions/report.html",
    }
    assert len(run.outputs.model_outputs) == 1


def test_what_is_planned_is_what_is_trained(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers in the table of `plan`, in the run and, where a job prints it, on the terminal."""
    (run,) = [run for run in runs_of(trained) if run.data.tags.get("radflow.arch") == "densenet121"]
    monkeypatch.chdir(trained)
    plan = plan_of("distributed", ["--data=dataset", *TRAINING])
    incidental = {"precision", "np", "resume"}  # resolved as the ranks start
    planned = {f"cfg/{name}": str(value) for name, value in plan.settings.items() if name not in incidental}
    assert {name: run.data.params[name] for name in planned} == planned
    assert (planned["cfg/norm"], planned["cfg/optimizer"], planned["cfg/gbz_schedule"]) == (
        "sync_batch",
        "adam",
        "16:1",
    )
    printed = (trained / "output.txt").read_text()
    for what, value, _ in plan_rows(plan):
        assert what == "expected time" or re.search(rf"{re.escape(what)} +{re.escape(value)}", printed)
    told = [sys.executable, "-m", "radflow", "plan", "-P", "data=dataset"]
    told += [word for flag in TRAINING for word in ("-P", flag.removeprefix("--"))]
    alone = subprocess.run(told, cwd=trained, env=user_environment(trained), capture_output=True, text=True, check=True)
    assert str(plan.batches) in alone.stdout


def test_where_the_films_came_from_is_in_the_store_too(trained: Path) -> None:
    runs = {run.info.run_name: run for run in runs_of(trained)}
    drawn, preprocessed = runs["sample-films"], runs["preprocess-dataset"]
    assert (drawn.info.status, drawn.data.params["cfg/films"], drawn.data.params["cfg/seed"]) == (
        "FINISHED",
        "240",
        "3",
    )
    assert (preprocessed.info.status, preprocessed.data.params["cfg/source"]) == ("FINISHED", str(trained / "films"))


def test_the_logged_aucs_are_those_of_the_predictions_file(trained: Path, tmp_path: Path) -> None:
    (run,) = [run for run in runs_of(trained) if run.data.tags.get("radflow.arch") == "densenet121"]
    path = client(trained).download_artifacts(run.info.run_id, "predictions/predictions.parquet", str(tmp_path))
    predictions = pd.read_parquet(path)
    test_list = (trained / "films" / "test_list.txt").read_text().split()
    assert sorted(predictions["image_id"]) == sorted(test_list)
    released = pd.read_csv(trained / "films" / "Data_Entry_2017.csv").set_index("Image Index")["Finding Labels"]
    for finding in FINDINGS:
        truth = released[predictions["image_id"]].str.split("|").map(lambda found, name=finding: name in found)
        logged = run.data.metrics[f"test/auc/{finding}"]
        if truth.any():
            assert logged == pytest.approx(roc_auc_score(truth, predictions[f"probability/{finding}"]), abs=1e-9)
        else:
            assert np.isnan(logged)


def test_what_a_user_reads_on_the_terminal(trained: Path) -> None:
    output = (trained / "output.txt").read_text()
    for words in ("GBZ 32 = 2 ranks x LBZ 8 x 2 micro-steps", "epoch 2/2", "predictions:", "mlflow ui"):
        assert output.count(words) == 1, words
    assert output.count("images/s") == 2
    assert "Traceback" not in output


def test_promote_then_predict_and_evaluate_from_the_alias(trained: Path, command: Command, tmp_path: Path) -> None:
    card = f"--card={REPOSITORY / 'registry/model_card.md'}"
    promoted = command("promote", card, f"--policy={policy_of(trained, minimum_auc=0.0)}")
    assert promoted.returncode == 0, promoted.stderr
    assert "version 1 is champion" in promoted.stdout
    described = client(trained).get_model_version("radflow-chest-densenet121", "1").description
    assert "phantoms, split: official, seed 0" in described
    assert f"| test | {len((trained / 'films' / 'test_list.txt').read_text().split())} |" in described

    predicted = command("predict", "--input=films/images", "--output=predicted.csv", "--calibrated=false")
    assert predicted.returncode == 0, predicted.stderr
    table = pd.read_csv(trained / "predicted.csv").set_index("film")
    assert list(table.columns) == [*FINDINGS, *(f"above/{finding}" for finding in FINDINGS), "error", "warning"]
    assert table["error"].isna().all()
    assert len(table) == len(list((trained / "films" / "images").iterdir()))
    (run,) = [run for run in runs_of(trained) if run.data.tags.get("radflow.arch") == "densenet121"]
    path = client(trained).download_artifacts(run.info.run_id, "predictions/predictions.parquet", str(tmp_path))
    tested = pd.read_parquet(path).set_index("image_id")
    # Film files through the registered model give what the trained model in memory gave from the dataset. Batches of
    # other sizes may round otherwise: in bfloat16, which training takes where the CPU has it, to eight bits.
    in_bfloat16 = run.data.params["cfg/precision"] == "mixed_bfloat16"
    tolerance = {"rtol": 2.0**-8} if in_bfloat16 else {"atol": 2e-5}
    for finding in FINDINGS:
        np.testing.assert_allclose(
            table.loc[tested.index, finding], tested[f"probability/{finding}"], **tolerance, err_msg=finding
        )

    evaluated = command("evaluate", "--data=dataset", "--split=test")
    assert evaluated.returncode == 0, evaluated.stderr
    evaluation = runs_of(trained)[0]
    assert evaluation.info.run_name == "evaluate-phantoms"
    assert evaluation.data.metrics["test/loss"] == pytest.approx(run.data.metrics["test/loss"], rel=1e-4)
    # Rounding to eight bits can make films with nearly the same probability change places.
    area = pytest.approx(run.data.metrics["test/auc/mean"], abs=5e-3 if in_bfloat16 else 1e-6)
    assert evaluation.data.metrics["test/auc/mean"] == area
    assert [item.dataset.name for item in evaluation.inputs.dataset_inputs] == ["phantoms/test"]


def test_a_registered_model_loads_with_mlflow_alone(trained: Path) -> None:
    """By both flavours, in a process that cannot import radflow."""
    program = (
        "import sys; sys.modules['radflow'] = None\n"
        "import mlflow, numpy\n"
        "model = mlflow.pyfunc.load_model('models:/radflow-chest-densenet121@champion')\n"
        "print(model.predict(model.input_example).shape)\n"
        "model = mlflow.tensorflow.load_model('models:/radflow-chest-densenet121@champion')\n"
        "print(model.predict(numpy.zeros((2, 32, 32), numpy.uint8)).shape)"
    )
    environment = {**user_environment(trained), "PYTHONPATH": ""}
    line = [sys.executable, "-c", program]
    ended = subprocess.run(line, cwd=trained, env=environment, capture_output=True, text=True, check=False)
    # Keras shows a bar of its own before.
    printed = ended.stdout.splitlines()
    assert ("(1, 31)" in printed, printed[-1:]) == (True, ["(2, 14)"]), ended.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("entry", "number", "code"), [("train", signal.SIGTERM, 143), ("distributed", signal.SIGINT, 130)]
)
def test_a_stopped_job_says_so_and_goes_on_when_resumed(
    workplace: Path, entry: str, number: signal.Signals, code: int
) -> None:
    job = ("--data=dataset", "--arch=vgg16", f"--out={entry}-stopped")
    line = [sys.executable, "-m", f"entrypoints.{entry}", *job, "--epochs=500"]
    environment = user_environment(workplace)
    with subprocess.Popen(line, cwd=workplace, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = ""
        while "epoch 1/500" not in told:
            told = process.stderr.readline()
            assert told, "the job ended before its first epoch did"
        process.send_signal(number)
        assert process.wait(60) == code
        assert f"stopped: received {number.name}" in process.stderr.read()
    stopped = runs_of(workplace)[0]
    assert stopped.info.status == "KILLED"
    assert stopped.data.tags["radflow.failure"] == f"received {number.name}"

    (folder,) = (workplace / f"{entry}-stopped").iterdir()
    resumed = run_entry_point(workplace, entry, *job, f"--resume={folder}", "--epochs=3")
    assert resumed.returncode == 0, resumed.stderr
    assert f"resuming {folder}" in resumed.stderr
    assert "epoch 3/3" in resumed.stderr
    assert "epoch 1/3" not in resumed.stderr
    run = client(workplace).get_run(stopped.info.run_id)
    assert run.info.status == "FINISHED"
    history = client(workplace).get_metric_history(run.info.run_id, "val/loss")
    assert [point.step for point in history] == [1, 2, 3]
    # Whoever resumes with other data or another model is told which.
    other = run_entry_point(workplace, entry, "--data=dataset", f"--resume={folder}", "--arch=resnet50")
    assert other.returncode == 2
    assert "was started with arch=vgg16, not resnet50" in other.stderr


def test_a_killed_rank_costs_a_restart_and_after_the_last_one_the_job(workplace: Path) -> None:
    runs_before = len(runs_of(workplace))
    job = ("--data=dataset", "--arch=vgg16", "--np=2", "--epochs=500", "--max_restarts=1", f"--out={workplace}/killed")
    line = [sys.executable, "-m", "entrypoints.distributed", *job]
    reason = f"rank 1 on {platform.node()} was ended by signal 9 (Killed)"
    with subprocess.Popen(
        line, cwd=workplace, env=user_environment(workplace), stderr=subprocess.PIPE, text=True
    ) as launcher:
        read_until(launcher, "epoch 1/500")
        os.kill(max(ranks_in(workplace / "killed")), signal.SIGKILL)
        assert f"{reason}; restart 1 of 1" in read_until(launcher, "restart")
        assert "from epoch 2" in read_until(launcher, "from epoch")
        read_until(launcher, "epoch 2/500")
        os.kill(max(ranks_in(workplace / "killed")), signal.SIGKILL)
        assert f"failed: {reason}" in read_until(launcher, "failed")
        assert launcher.wait(120) == 1
    assert len(runs_of(workplace)) == runs_before + 1
    run = runs_of(workplace)[0]
    assert run.info.status == "FAILED"
    assert run.data.tags["radflow.failure"] == reason


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """The next line with this word that a process writes to stderr."""
    assert process.stderr is not None
    while word not in (line := process.stderr.readline()):
        assert line, f"the process ended before it said {word!r}"
    return line


def ranks_in(out: Path) -> list[int]:
    """Process ids of the ranks that train into a folder, the first rank first."""
    search = ["pgrep", "--full", f"radflow distributed.*--out={out}"]
    return list(map(int, subprocess.run(search, capture_output=True, text=True, check=True).stdout.split()))


def policy_of(folder: Path, **rules: float) -> Path:
    path = folder / "policy.yaml"
    policy = yaml.safe_load((REPOSITORY / "registry/policy.yaml").read_text())
    policy["families"]["radflow-chest-densenet121"] = rules
    path.write_text(yaml.safe_dump(policy))
    return path


def client(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


def artifacts_in(folder: Path, run, path: str) -> list:
    return client(folder).list_artifacts(run.info.run_id, path)
