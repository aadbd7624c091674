"""A training job from the dataset to the logged model: build, fit, assess. Every rank runs it alike."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from radflow.cluster.communicator import Communicator, share_from_first
from radflow.cluster.watchdog import CONCLUDING
from radflow.data.dataset.reading import Dataset
from radflow.data.phantom.chest.films import golden_film
from radflow.data.seen_patients import PATIENTS_FILE, Leakage, SeenPatients
from radflow.evaluation.calibration import fit_platt
from radflow.evaluation.evaluation import Evaluation
from radflow.evaluation.predictions import Predictions
from radflow.evaluation.thresholds import choose_thresholds
from radflow.inference.description import Calibration, Outputs, fit_named
from radflow.inference.saved_model import save_classifier
from radflow.models.classifier import build_classifier
from radflow.optim.factory import build_optimizer
from radflow.optim.learning_rate import LearningRate
from radflow.plots.learning_curves import learning_curves_figure, learning_rate_figure
from radflow.plots.report import RunFacts, summary_markdown
from radflow.terminal import say
from radflow.tracking.run import SilentRun, TrackedRun, resume_run, tracking_run
from radflow.training.assessment import Subject, assess, log_inputs, predictions_of
from radflow.training.checkpoint import CheckpointFolder, Checkpoints, NoCheckpoints
from radflow.training.config import TrainingConfig
from radflow.training.initial_weights import patients_seen_by, resolve_alias, weights_file
from radflow.training.job_folder import Job, job_to_resume, make_job_folder, mark_finished
from radflow.training.leakage import keep_seen_patients
from radflow.training.loop import Reporting, fit
from radflow.training.plan import TrainingPlan
from radflow.training.progress import EpochProgress, SilentProgress, TerminalProgress
from radflow.training.record import record_start
from radflow.training.state import TrainingState
from radflow.training.targets import prevalences, training_targets
from radflow.versions import installed_versions

RECORDED_PACKAGES = ("radflow", "keras", "tensorflow", "tensorflow-cpu", "horovod", "mlflow")


def run_job(plan: TrainingPlan, dataset: Dataset, communicator: Communicator) -> None:
    """Train, assess on the test films and log the model, in one MLflow run whatever the number of ranks."""
    config = plan.config
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    progress: EpochProgress = communicator.on_first_rank(TerminalProgress) or SilentProgress()
    earlier = communicator.raise_together(lambda: communicator.on_first_rank(lambda: job_to_resume(plan.settings)))
    own_run: AbstractContextManager[TrackedRun] | None = communicator.on_first_rank(
        lambda: _open_run(plan, dataset, earlier)
    )
    with own_run or nullcontext(SilentRun()) as run, closing(progress):
        if earlier:
            say(f"resuming {earlier.folder}")
        log_inputs(dataset, ("train", "val", "test"), run)
        communicator.on_first_rank(lambda: record_start(config, resolve_alias(config.model.weights), run))
        folder = Path(share_from_first(communicator, lambda: str(_job_folder(plan, earlier, run))))
        checkpoints: Checkpoints = (
            communicator.on_first_rank(lambda: CheckpointFolder(folder, config.checkpoint_minutes)) or NoCheckpoints()
        )
        state, seen = communicator.raise_together(lambda: _first_state(plan, dataset, checkpoints, communicator))
        state.share(communicator)
        leakage = communicator.raise_together(
            lambda: communicator.on_first_rank(lambda: keep_seen_patients(seen, dataset, folder, run))
        )
        predictor = fit(state, dataset, config, communicator, Reporting(run, progress, checkpoints, folder))
        communicator.on_first_rank(lambda: _describe_training(config, dataset, state, run))
        if config.assess:
            probabilities = {split: predictor.predict(dataset.split(split)) for split in ("val", "test")}
            communicator.heartbeat(CONCLUDING)
            communicator.on_first_rank(
                lambda: _conclude(plan, dataset, state, probabilities, cast(Leakage, leakage), folder, run)
            )
    communicator.on_first_rank(lambda: mark_finished(folder))


def _open_run(plan: TrainingPlan, dataset: Dataset, earlier: Job | None) -> AbstractContextManager[TrackedRun]:
    if earlier:
        resume_run(earlier.run_id)
    tags = run_tags(plan.config.model.arch, dataset)
    return tracking_run(plan.config.run_name(dataset.name), _settings(plan, dataset), tags)


def _job_folder(plan: TrainingPlan, earlier: Job | None, run: TrackedRun) -> Path:
    if earlier:
        return earlier.folder
    job = Job(make_job_folder(Path(plan.config.out), plan.config.model.arch), run.run_id, plan.settings)
    job.write()
    return job.folder


def _first_state(
    plan: TrainingPlan, dataset: Dataset, checkpoints: Checkpoints, communicator: Communicator
) -> tuple[TrainingState, SeenPatients | None]:
    """New weights, or on the first rank those of the newest checkpoint; other ranks get the first one's afterwards.

    With the patients whom the initial weights have seen, unless a checkpoint is taken up.
    """
    newest = checkpoints.newest()
    config, recipe = plan.config, plan.recipe
    # One rank reads or downloads the initial weights, and none if it resumes a checkpoint.
    weights = "none" if newest else communicator.on_first_rank(lambda: resolve_alias(config.model.weights)) or "none"
    seen = None if newest else patients_seen_by(weights)
    with weights_file(weights) as file:
        classifier = build_classifier(
            replace(config.model, norm=recipe.norm, weights=weights),
            recipe.precision,
            dataset.image_size,
            prevalences(training_targets(dataset.split("train").table, dataset.findings, config.objective.uncertain)),
            config.seed,
            file,
        )
    head = classifier.get_layer("logits").trainable_variables
    optim = replace(config.optim, optimizer=recipe.optimizer)
    optimizer = build_optimizer(optim, classifier.trainable_variables, head, recipe.precision, communicator)
    optimizer.build(classifier.trainable_variables)
    learning_rate = LearningRate(
        recipe.peak_lr, recipe.warmup_epochs, recipe.epochs, optim.schedule, optim.cycles, recipe.first_factors
    )
    state = TrainingState(classifier, optimizer, learning_rate, plan.schedule, optim.frozen_epochs, optim.ema)
    if newest:
        state.restore(newest, checkpoints.best(), checkpoints.snapshots())
        say(f"from epoch {state.epoch + 1}, step {state.step + 1} of {state.plan.steps_per_epoch}")
    return state, seen


def _describe_training(config: TrainingConfig, dataset: Dataset, state: TrainingState, run: TrackedRun) -> None:
    title = f"{config.model.arch} on {dataset.name}"
    run.log_figure(learning_curves_figure(state.history, title), "figures/learning_curves.png")
    run.log_figure(_draw_learning_rate(config, dataset, state.learning_rate), "figures/learning_rate.png")


def _conclude(
    plan: TrainingPlan,
    dataset: Dataset,
    state: TrainingState,
    probabilities: dict[str, np.ndarray],
    leakage: Leakage,
    folder: Path,
    run: TrackedRun,
) -> None:
    """Assess the test films from the probabilities [films, findings] of each split and log figures, note and model."""
    predictions = predictions_of(dataset.split("test"), dataset.findings, probabilities["test"])
    title = f"{plan.config.model.arch} on {dataset.name}, test films"
    outputs = outputs_of(dataset, predictions_of(dataset.split("val"), dataset.findings, probabilities["val"]))
    subject = Subject("test", title, f"{plan.config.model.arch} of run {run.run_id}", dataset, leakage)
    assessment = assess(predictions, outputs, subject, folder, run, state.epoch)
    run.set_note(_note(plan, dataset, state, assessment.evaluation, leakage))
    _log_model(plan, dataset, state, outputs, assessment.metrics, folder, run)
    say(run.url())


def outputs_of(dataset: Dataset, validation: Predictions) -> Outputs:
    """What the network's outputs mean, with thresholds and calibration from what it says of validation films."""
    return Outputs(
        findings=dataset.findings,
        thresholds=choose_thresholds(validation),
        calibration=Calibration(*fit_platt(validation)),
        fit=fit_named(dataset.manifest.fit),
    )


def _settings(plan: TrainingPlan, dataset: Dataset) -> dict[str, Any]:
    """What was asked for and all that was derived from it."""
    return {
        **plan.settings,
        "precision": plan.recipe.precision,
        "data_split": _split_in_words(dataset),
        "host": platform.node(),
        **{f"version_{name}": version for name, version in installed_versions(RECORDED_PACKAGES).items()},
    }


def _split_in_words(dataset: Dataset) -> str:
    """Results on an official and on a random split are never to be compared unsaid."""
    rule = dataset.manifest.split_rule
    return f"{rule.rule}, seed {rule.seed}"


def run_tags(arch: str, dataset: Dataset) -> dict[str, str]:
    """Tags by which promotion finds comparable runs."""
    return {
        "radflow.arch": arch,
        "radflow.task": dataset.manifest.task,
        "radflow.data_name": dataset.name,
        "radflow.data_digest": dataset.digest,
    }


def _draw_learning_rate(config: TrainingConfig, dataset: Dataset, learning_rate: LearningRate) -> Figure:
    """The schedule over all epochs, at one point a pixel; after training it shows where a plateau lowered the rate."""
    epochs = np.linspace(0, learning_rate.epochs, 1000, endpoint=False).tolist()
    title = f"{config.model.arch} on {dataset.name}, schedule {learning_rate.schedule}"
    return learning_rate_figure(epochs, [learning_rate.at(epoch) for epoch in epochs], title)


def _note(plan: TrainingPlan, dataset: Dataset, state: TrainingState, evaluation: Evaluation, leakage: Leakage) -> str:
    # The first epoch includes tracing of the graph; the median says what training costs.
    facts = RunFacts(
        model=f"{plan.config.model.arch}, norm {plan.recipe.norm}",
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        films={split: counts.rows for split, counts in dataset.manifest.splits.items()},
        evaluated_split="test",
        ranks=plan.batches.ranks,
        local_batch=plan.batches.local_batch,
        micro_steps=plan.batches.micro_steps,
        optimizer=plan.recipe.optimizer,
        learning_rate=state.learning_rate.peak,
        epochs=state.epoch,
        images_per_second=float(np.nanmedian([epoch["throughput/images_per_second"] for epoch in state.history])),
        seconds_per_epoch=float(np.nanmedian([epoch["throughput/seconds_per_epoch"] for epoch in state.history])),
        leakage=leakage.warning,
    )
    return summary_markdown(facts, evaluation.aucs, evaluation.mean_auc.interval, evaluation.groups)


def _log_model(
    plan: TrainingPlan,
    dataset: Dataset,
    state: TrainingState,
    outputs: Outputs,
    metrics: dict[str, float],
    folder: Path,
    run: TrackedRun,
) -> None:
    params = {
        "findings": ",".join(dataset.findings),
        "arch": plan.config.model.arch,
        "norm": plan.recipe.norm,
        "data_digest": dataset.digest,
        "task": dataset.manifest.task,
        "fit": dataset.manifest.fit,
    }
    film, seen = golden_film(dataset.image_size)[np.newaxis], [folder / PATIENTS_FILE]

    def write(place: Path) -> None:
        save_classifier(state.classifier, outputs, film, place, params, seen)

    run.log_model(write, metrics=metrics, params=params)
