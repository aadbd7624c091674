"""Trainings with and without pre-training on equal terms, one after the other, each a process and a run of its own."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from radflow.config import flatten
from radflow.data.dataset.reading import Dataset
from radflow.errors import MISTAKE, JobError, UserError
from radflow.evaluation.predictions import read_predictions
from radflow.files import atomic_file, read_json
from radflow.terminal import say
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.run import STUDY_TAG, close_abandoned_run, create_run, resume_run, tracking_run
from radflow.training.child_process import Epoch, follow_training, training_command
from radflow.training.history import HISTORY_FILE, read_epochs
from radflow.training.initial_weights import check_weights, patients_seen_by, resolve_alias
from radflow.training.job_folder import EXECUTION_SETTINGS, JOB_FILE, PREDICTIONS_FILE, Job, read_job
from radflow.training.leakage import report_leakage
from radflow.transfer.arms import ARMS, Arm, Trained
from radflow.transfer.config import TransferConfig
from radflow.transfer.report import report

ARM_TAG, SEED_TAG, KIND_TAG = "radflow.arm", "radflow.seed", "radflow.kind"
KIND = "transfer-compare"
STUDY_FILE = "study.json"

_EQUAL_ANYWAY = EXECUTION_SETTINGS | {"data", "seed", "seeds", "target_auc", "source"}


def compare(config: TransferConfig, dataset: Dataset) -> None:
    """Train each half with every seed, and report; what the same command has finished before is taken as it is.

    Raises
    ------
    UserError
        The pre-trained weights do not fit, or what trainings do not accept.
    JobError
        A training failed.
    """
    check_weights(replace(config.model, weights=config.pretrained))
    prepare_tracking()
    config = replace(config, pretrained=resolve_alias(config.pretrained), data=str(dataset.path))
    leakage = patients_seen_by(config.pretrained).leakage(dataset, "test")
    name = study_name(config, dataset.digest)
    folder = Path(config.out) / name
    _resume_run(folder)
    tags = {STUDY_TAG: name, KIND_TAG: KIND, "radflow.data_name": dataset.name, "radflow.data_digest": dataset.digest}
    with tracking_run(name, flatten(config), tags) as run:
        _remember(folder, run.run_id)
        report_leakage(leakage, "the test AUCs with pre-training will be too high", run)
        say(f"study {name}: {config.seeds} seeds with {config.pretrained}, and as many from scratch")
        seeds = range(config.seed, config.seed + config.seeds)
        trained = [_train(config, name, folder, arm, seed) for seed in seeds for arm in ARMS]
        report(trained, config, dataset, leakage.warning, run)
        say(run.url())


def study_name(config: TransferConfig, data_digest: str) -> str:
    """A name made of all that makes trainings comparable, so that the same command resumes the same study."""
    defining = {name: value for name, value in flatten(config).items() if name not in _EQUAL_ANYWAY}
    text = json.dumps({**defining, "data_digest": data_digest}, sort_keys=True)
    return f"transfer-{config.model.arch}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def arm_config(config: TransferConfig, arm: Arm, seed: int, out: Path) -> TransferConfig:
    """What one training of a comparison is told.

    Frozen epochs and a lower rate are for what the body knows already; from scratch it trains as the head does.
    """
    from_scratch = replace(config.optim, body_lr_factor=1.0, frozen_epochs=0.0)
    source, optim = (config.pretrained, config.optim) if arm == "pretrained" else ("none", from_scratch)
    return replace(config, source=source, optim=optim, seed=seed, out=str(out), resume="auto", config="")


def _train(config: TransferConfig, study: str, folder: Path, arm: Arm, seed: int) -> Trained:
    """Train unless that was done before; a training that was interrupted goes on."""
    title, out = f"{arm}, seed {seed}", folder / f"{arm}-seed{seed}"
    job = _newest_job(out)
    if job and job.is_finished:
        say(f"{title}: finished before")
        return _result(arm, seed, job)
    tags = {STUDY_TAG: study, ARM_TAG: arm, SEED_TAG: str(seed)}
    run_id = job.run_id if job else create_run(f"{study}-{arm}-seed{seed}", tags)

    def show(epoch: Epoch) -> bool:
        loss, auc = (math.nan if epoch[key] is None else epoch[key] for key in ("val/loss", "val/auc/mean"))
        say(f"{title}: epoch {epoch['epoch']} of {config.epochs}  val loss {loss:.4f}  val AUC {auc:.4f}")
        return True

    command = training_command(arm_config(config, arm, seed, out), "transfer")
    try:
        ended = follow_training(command, out, {"MLFLOW_RUN_ID": run_id}, show, lambda: None)
    finally:
        close_abandoned_run(run_id, patience=30.0)
    if ended.code == MISTAKE:
        raise UserError(ended.last_line.removeprefix("error: "))
    job = _newest_job(out)
    if ended.code or job is None or not job.is_finished:
        raise JobError(f"{title} ended with exit code {ended.code}: {ended.last_line}; its output is in {out}")
    for checkpoint in job.folder.glob("*.npz"):
        checkpoint.unlink()  # of no use once the model is logged
    return _result(arm, seed, job)


def _newest_job(out: Path) -> Job | None:
    jobs = [read_job(path.parent) for path in sorted(out.glob(f"*/{JOB_FILE}"), reverse=True)]
    return next((job for job in jobs if job.is_finished), jobs[0] if jobs else None)


def _result(arm: Arm, seed: int, job: Job) -> Trained:
    predictions = read_predictions(job.folder / PREDICTIONS_FILE)
    return Trained(arm, seed, job.run_id, tuple(_history(job.folder)), predictions)


def _history(folder: Path) -> Iterator[dict[str, float]]:
    """Each epoch once: one that was validated again after an interruption as it was in the end."""
    epochs = {epoch["epoch"]: epoch for epoch in read_epochs(folder / HISTORY_FILE)}
    for epoch in epochs.values():
        yield {key: math.nan if value is None else value for key, value in epoch.items()}


def _resume_run(folder: Path) -> None:
    """Let the comparison go on in its MLflow run, if it was begun before."""
    path = folder / STUDY_FILE
    if not path.exists():
        return
    try:
        run_id = read_json(path)["run_id"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete {folder} to compare again") from error
    resume_run(run_id)


def _remember(folder: Path, run_id: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / STUDY_FILE) as temporary:
        temporary.write_text(json.dumps({"run_id": run_id}) + "\n", encoding="utf-8")
