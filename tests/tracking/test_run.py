from __future__ import annotations

import inspect
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from radflow.errors import Interrupted, UserError
from radflow.tracking.run import Run, SilentRun, TrackedRun, close_abandoned_run, tracking_run


def only_run(store: MlflowClient) -> MlflowRun:
    experiments = [experiment.experiment_id for experiment in store.search_experiments()]
    (run,) = store.search_runs(experiments)
    return run


def artifacts(store: MlflowClient, run_id: str) -> Path:
    return Path(mlflow.artifacts.download_artifacts(run_id=run_id, tracking_uri=store.tracking_uri))


def run_that_ends_with(error: BaseException, name: str = "ending", config: Mapping[str, object] | None = None) -> None:
    with tracking_run(name, config or {}) as run:
        run.log_metrics({"train/loss": 1.0}, step=0)
        raise error


def test_everything_logged_is_there_when_the_block_ends(store: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "predictions.parquet").write_bytes(b"PAR1")
    figure = Figure()
    figure.subplots().plot([0, 1])
    with tracking_run("densenet121", {"gbz": 512, "arch": "densenet121"}, {"family": "chest"}) as run:
        for epoch in range(3):
            run.log_metrics({"train/loss": 1.0 / (epoch + 1), "val/auc/Hernia": math.nan}, step=epoch)
        run.log_figure(figure, "figures/auc.png")
        run.log_file(tmp_path / "predictions.parquet", "evaluation")
        run.log_text("hello", "notes.txt")
        run.log_table(pd.DataFrame({"finding": ["Mass"], "auc": [0.8]}), "auc.json")
        run.set_note("## Result")
        (tmp_path / "predictions.parquet").unlink()
    logged = only_run(store)
    assert (logged.info.status, logged.info.run_name) == ("FINISHED", "densenet121")
    assert logged.info.experiment_id == "0"
    assert store.get_experiment("0").tags["mlflow.experimentKind"] == "custom_model_development"
    assert logged.data.params == {"cfg/gbz": "512", "cfg/arch": "densenet121"}
    assert logged.data.tags["family"] == "chest"
    assert logged.data.tags["mlflow.note.content"] == "## Result"
    history = store.get_metric_history(run.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.5), (2, 1.0 / 3)]
    assert math.isnan(logged.data.metrics["val/auc/Hernia"])
    assert any(key.startswith("system/cpu") for key in logged.data.metrics)
    folder = artifacts(store, run.run_id)
    assert (folder / "figures/auc.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "evaluation/predictions.parquet").read_bytes() == b"PAR1"
    assert (folder / "notes.txt").read_text() == "hello"
    assert store.load_table(logged.info.experiment_id, "auc.json", [run.run_id]).to_dict("list") == {
        "finding": ["Mass"],
        "auc": [0.8],
    }
    assert list((tmp_path / "runs/spool").iterdir()) == []


def test_a_data_set_used_in_three_ways_shows_all_three(store: MlflowClient) -> None:
    digest = "0123456789abcdef" * 4
    with tracking_run("data", {}) as run:
        for context, films in (("training", 80), ("validation", 10), ("testing", 10)):
            run.log_dataset("phantom", digest, "/data/phantom", {"films": films}, context)
        with pytest.raises(ValueError, match="training, validation, testing"):
            run.log_dataset("phantom", digest, "/data/phantom", {}, "train")
    inputs = only_run(store).inputs.dataset_inputs
    assert [(item.dataset.name, item.tags[0].value) for item in inputs] == [
        ("phantom/train", "training"),
        ("phantom/val", "validation"),
        ("phantom/test", "testing"),
    ]
    assert {item.dataset.digest for item in inputs} == {digest[:36]}
    assert json.loads(inputs[0].dataset.profile) == {"films": 80, "digest": digest}


def test_an_undocumented_metric_key_is_an_error(store: MlflowClient) -> None:
    with pytest.raises(KeyError, match="val/AUC"), tracking_run("keys", {}) as run:
        run.log_metrics({"train/loss": 1.0, "val/AUC": 0.5}, step=0)
    assert only_run(store).info.status == "FAILED"
    assert "train/loss" not in only_run(store).data.metrics


def test_values_longer_than_mlflow_takes_are_cut(store: MlflowClient) -> None:
    with tracking_run("long", {f"key{number}": "x" * 7000 for number in range(150)}) as run:
        run.set_note("y" * 9000)
    logged = only_run(store)
    assert {len(value) for value in logged.data.params.values()} == {6000}
    assert len(logged.data.params) == 150
    assert len(logged.data.tags["mlflow.note.content"]) == 8000


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ValueError("no such layer\nin this model"), "FAILED", "ValueError: no such layer"),
        (UserError("gbz 7 does not divide"), "FAILED", "UserError: gbz 7 does not divide"),
        (SystemExit(2), "FAILED", "exit code 2"),
        (SystemExit(0), "FINISHED", None),
        (KeyboardInterrupt(), "KILLED", "received SIGINT"),
        (MemoryError(), "FAILED", "MemoryError"),
    ],
)
def test_the_status_says_how_the_block_ended(
    store: MlflowClient, error: BaseException, status: str, reason: str | None
) -> None:
    with pytest.raises(type(error)):
        run_that_ends_with(error)
    logged = only_run(store)
    assert (logged.info.status, logged.data.tags.get("radflow.failure")) == (status, reason)
    assert logged.info.end_time >= logged.info.start_time
    assert logged.data.metrics["train/loss"] == 1.0


@pytest.fixture
def hangups_count() -> Iterator[None]:
    """SIGHUP with its default effect, which it has not where the tests were started with nohup."""
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, inherited)


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)],
)
def test_a_signal_ends_the_run_as_killed_and_the_old_handlers_return(
    store: MlflowClient, hangups_count: None, number: signal.Signals, exit_code: int
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as killed, tracking_run("signals", {}):
        os.kill(os.getpid(), number)
    assert killed.value.exit_code == exit_code
    assert only_run(store).info.status == "KILLED"
    assert only_run(store).data.tags["radflow.failure"] == f"received {number.name}"
    assert signal.getsignal(number) == before


def test_a_second_signal_does_not_tear_what_the_first_has_begun(store: MlflowClient, tmp_path: Path) -> None:
    """MLflow answers Ctrl-C with SIGTERM to a job that is writing its checkpoint on SIGINT."""
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(Interrupted) as killed, tracking_run("impatient", {}):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGTERM)
            checkpoint.touch()
            raise
    assert checkpoint.exists()
    assert killed.value.exit_code == 130
    assert only_run(store).info.status == "KILLED"
    assert only_run(store).data.tags["radflow.failure"] == "received SIGINT"


def test_a_second_signal_does_not_tear_the_end(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    close = Run.close

    def close_under_fire(run: Run, status: str, reason: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        close(run, status, reason)

    monkeypatch.setattr(Run, "close", close_under_fire)
    with pytest.raises(Interrupted), tracking_run("impatient", {}):
        os.kill(os.getpid(), signal.SIGINT)
    assert only_run(store).info.status == "KILLED"


def test_mlflow_run_s_run_is_resumed_under_our_name(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    started = store.create_run("0")
    store.log_param(started.info.run_id, "gbz", "'4096'")
    monkeypatch.setenv("MLFLOW_RUN_ID", started.info.run_id)
    with tracking_run("vgg16", {"gbz": 4096}) as run:
        assert run.run_id == started.info.run_id
        assert "MLFLOW_RUN_ID" not in os.environ
    logged = only_run(store)
    assert (logged.info.status, logged.info.run_name) == ("FINISHED", "vgg16")
    assert logged.data.params == {"gbz": "'4096'", "cfg/gbz": "4096"}


def test_resuming_keeps_a_chosen_name_and_continues_params_and_system_metrics(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError):
        run_that_ends_with(RuntimeError(), "my best run", {"epochs": 4, "seed": 1})
    monkeypatch.setenv("MLFLOW_RUN_ID", only_run(store).info.run_id)
    with tracking_run("another", {"epochs": 8, "seed": 1, "norm": "group"}) as run:
        run.log_metrics({"train/loss": 0.5}, step=1)
    logged = only_run(store)
    assert (logged.info.status, logged.info.run_name) == ("FINISHED", "my best run")
    assert logged.data.params == {"cfg/epochs": "4", "cfg/seed": "1", "cfg/norm": "group"}
    assert logged.data.tags["resumed/cfg/epochs"] == "8"
    assert [point.step for point in store.get_metric_history(run.run_id, "train/loss")] == [0, 1]
    steps = [point.step for point in store.get_metric_history(run.run_id, "system/cpu_utilization_percentage")]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("run_id", ["0123456789abcdef0123456789abcdef", "not a run"])
def test_an_unknown_run_to_resume_is_one_line(
    store: MlflowClient, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with pytest.raises(UserError, match=run_id) as error, tracking_run("nowhere", {}):
        pass
    assert "\n" not in str(error.value)


def test_a_failed_run_stays_failed_when_the_process_ends(store: MlflowClient, tmp_path: Path) -> None:
    """MLflow's own exit hook must not have a say, nor must a run that another library started."""
    program = "from radflow.tracking.run import tracking_run\nwith tracking_run('x', {}): raise ValueError('bad film')"
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False)
    assert ended.returncode == 1
    assert only_run(store).info.status == "FAILED"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_job_that_gets_a_signal_exits_as_a_shell_expects(
    store: MlflowClient, tmp_path: Path, number: signal.Signals, exit_code: int
) -> None:
    program = (
        "import sys, time\nfrom radflow.errors import Interrupted\nfrom radflow.tracking.run import tracking_run\n"
    )
    # Short sleeps: Python handles a signal that came just before a sleep only after it.
    program += "try:\n with tracking_run('x', {}):\n  print('ready', flush=True)\n  while True: time.sleep(0.1)\n"
    program += "except Interrupted as killed: sys.exit(killed.exit_code)"
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
        job.send_signal(number)
        assert job.wait(60) == exit_code
    assert only_run(store).info.status == "KILLED"


def test_a_process_that_is_about_to_be_ended_by_another_thread_fails_its_run(
    store: MlflowClient, tmp_path: Path
) -> None:
    """The thread that owns the run hangs where no exception reaches it."""
    program = "import os, threading\nfrom radflow.tracking.run import fail_open_runs, tracking_run\n"
    program += "def end():\n  fail_open_runs('no progress for 9 s')\n  os._exit(75)\n"
    program += "with tracking_run('x', {}) as run:\n  run.log_metrics({'train/loss': 2.0}, step=0)\n"
    program += "  threading.Thread(target=end).start()\n  threading.Event().wait()"
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False, timeout=120)
    assert ended.returncode == 75
    run = only_run(store)
    assert (run.info.status, run.data.tags["radflow.failure"]) == ("FAILED", "no progress for 9 s")
    assert run.data.metrics["train/loss"] == 2.0


def test_a_process_killed_outright_is_closed_by_its_launcher(store: MlflowClient, tmp_path: Path) -> None:
    program = "import os, signal\nfrom radflow.tracking.run import tracking_run\n"
    program += "with tracking_run('x', {}): os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False)
    abandoned = only_run(store)
    assert abandoned.info.status == "RUNNING"
    close_abandoned_run(abandoned.info.run_id, "rank 0 was killed")
    closed = only_run(store)
    assert (closed.info.status, closed.data.tags["radflow.failure"]) == ("FAILED", "rank 0 was killed")
    store.set_terminated(abandoned.info.run_id, "FINISHED")
    close_abandoned_run(abandoned.info.run_id)
    assert only_run(store).info.status == "FINISHED"


def test_a_run_in_progress_is_not_abandoned(store: MlflowClient) -> None:
    with tracking_run("alive", {}) as run:
        close_abandoned_run(run.run_id)
        assert store.get_run(run.run_id).info.status == "RUNNING"


def test_run_and_silent_run_offer_what_a_tracked_run_promises() -> None:
    promised = {name: value for name, value in vars(TrackedRun).items() if not name.startswith("_")}
    for kind in (Run, SilentRun):
        for name, promise in promised.items():
            kept = vars(kind)[name]
            if isinstance(promise, property):
                assert isinstance(kept, property), (kind, name)
            else:
                assert inspect.signature(kept) == inspect.signature(promise), (kind, name)


def test_a_silent_run_never_touches_mlflow(tmp_path: Path) -> None:
    program = "import sys\nfrom radflow.tracking.tracked_run import SilentRun\nrun = SilentRun()\n"
    program += "run.log_metrics({'no such key': 1.0}, step=0); run.log_text('x', 'x.txt'); run.set_note('x')\n"
    program += "print(run.run_id, run.url(), run.log_model(print), 'mlflow' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["None", "False"]
    assert list(tmp_path.iterdir()) == []
