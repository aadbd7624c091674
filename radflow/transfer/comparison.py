"""Trainings with and without pre-training on equal terms, one after the other, each a process and a run of its own."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

from radflow.config import flatten
from radflow.data.dataset.reading import Dataset
from radflow.evaluation.predictions import read_predictions
from radflow.terminal import say
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.remembered_run import remember_run, resume_remembered
from radflow.tracking.run import STUDY_TAG, tracking_run
from radflow.training.child_process import Epoch, training_command
from radflow.training.history import HISTORY_FILE, last_epochs
from radflow.training.initial_weights import check_weights, patients_seen_by, resolve_alias
from radflow.training.job_folder import EXECUTION_SETTINGS, PREDICTIONS_FILE, Job
from radflow.training.leakage import report_leakage
from radflow.training.own_run import OwnRun
from radflow.transfer.arms import ARMS, Arm, Trained
from radflow.transfer.config import TransferConfig
from radflow.transfer.report import report

ARM_TAG, SEED_TAG, KIND_TAG = "radflow.arm", "radflow.seed", "radflow.kind"
KIND = "transfer-compare"

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
    resume_remembered(folder)
    tags = {STUDY_TAG: name, KIND_TAG: KIND, "radflow.data_name": dataset.name, "radflow.data_digest": dataset.digest}
    with tracking_run(name, flatten(config), tags) as run:
        remember_run(folder, run.run_id)
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
    command = training_command(arm_config(config, arm, seed, out), "transfer")
    tags = {STUDY_TAG: study, ARM_TAG: arm, SEED_TAG: str(seed)}
    training = OwnRun(title, command, out, f"{study}-{arm}-seed{seed}", tags)
    job = training.job
    if job and job.is_finished:
        say(f"{title}: finished before")
        return _result(arm, seed, job)

    def show(epoch: Epoch) -> None:
        loss, auc = (math.nan if epoch[key] is None else epoch[key] for key in ("val/loss", "val/auc/mean"))
        say(f"{title}: epoch {epoch['epoch']} of {config.epochs}  val loss {loss:.4f}  val AUC {auc:.4f}")

    return _result(arm, seed, training.train(show))


def _result(arm: Arm, seed: int, job: Job) -> Trained:
    predictions = read_predictions(job.folder / PREDICTIONS_FILE)
    return Trained(arm, seed, job.run_id, tuple(last_epochs(job.folder / HISTORY_FILE)), predictions)
