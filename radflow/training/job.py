"""A training job from the data set to the logged model: build, fit, assess. Every rank runs it alike."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from radflow.cluster.batch_plan import BatchPlan
from radflow.cluster.communicator import Communicator
from radflow.cluster.threads import choose_precision
from radflow.config import flatten
from radflow.data.dataset import Dataset
from radflow.data.findings import FINDINGS
from radflow.data.images import resize_film
from radflow.data.phantom_films import LARGEST_FILM, SMALLEST_FILM, render_films
from radflow.data.tasks import task_of
from radflow.environment import installed_versions
from radflow.evaluation.figures import learning_curves_figure, learning_rate_figure
from radflow.evaluation.report import RunFacts, summary_markdown
from radflow.evaluation.thresholds import youden_thresholds
from radflow.models.classifier import build_classifier
from radflow.optim.factory import build_optimizer
from radflow.optim.learning_rate import LearningRate, peak_learning_rate
from radflow.terminal import say
from radflow.tracking.run import SilentRun, TrackedRun, go_on_with, tracking_run
from radflow.tracking.saved_model import FINDINGS_PARAM, THRESHOLDS_PARAM
from radflow.training.assessment import Assessment, assess, log_inputs, predictions_of
from radflow.training.checkpoint import CheckpointFolder
from radflow.training.config import TrainingConfig
from radflow.training.inference import SplitPredictor
from radflow.training.initial_weights import weights_file
from radflow.training.job_folder import Job, job_settings, job_to_resume, make_job_folder
from radflow.training.loop import Checkpoints, NoCheckpoints, Reporting, fit
from radflow.training.progress import EpochProgress, SilentProgress, TerminalProgress
from radflow.training.state import TrainingState

ADAM_LIMIT = 0.02
"""Learning rate above which a run with Adam is told that it will hardly learn."""
RECORDED_PACKAGES = ("radflow", "keras", "tensorflow", "tensorflow-cpu", "horovod", "mlflow")


def run_job(config: TrainingConfig, dataset: Dataset, plan: BatchPlan, communicator: Communicator) -> None:
    """Train, assess on the test films and log the model, in one MLflow run whatever the number of ranks."""
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    progress: EpochProgress = communicator.choose(TerminalProgress, SilentProgress)
    earlier = communicator.together(
        lambda: communicator.choose(lambda: job_to_resume(config, dataset, plan), lambda: None)
    )
    own_run: AbstractContextManager[TrackedRun] = communicator.choose(
        lambda: _open_run(config, dataset, plan, earlier), lambda: nullcontext(SilentRun())
    )
    with own_run as run, closing(progress):
        communicator.choose(lambda: _announce(config, plan, earlier), lambda: None)
        log_inputs(dataset, ("train", "val", "test"), run)
        folder = communicator.choose(lambda: _job_folder(config, dataset, plan, earlier, run), lambda: None)
        kept = folder if config.assess else None
        checkpoints: Checkpoints = CheckpointFolder(kept, config.checkpoint_minutes) if kept else NoCheckpoints()
        state = communicator.together(lambda: _first_state(config, dataset, plan, checkpoints, communicator))
        state.share(communicator)
        fit(state, dataset, plan, config, communicator, Reporting(run, progress, checkpoints, folder))
        if folder:
            _describe_training(config, dataset, state, run)
        if not config.assess:
            return
        predictor = SplitPredictor(state.classifier, plan.local_batch, communicator)
        probabilities = {split: predictor.predict(dataset.split(split)) for split in ("val", "test")}
        if folder:
            _conclude(config, dataset, plan, state, probabilities, folder, run)


def _open_run(
    config: TrainingConfig, dataset: Dataset, plan: BatchPlan, earlier: Job | None
) -> AbstractContextManager[TrackedRun]:
    if earlier:
        go_on_with(earlier.run_id)
    settings, tags = _settings(config, dataset, plan), run_tags(config.model.arch, dataset)
    return tracking_run(config.run_name(dataset.name), settings, tags)


def _announce(config: TrainingConfig, plan: BatchPlan, earlier: Job | None) -> None:
    peak = peak_learning_rate(config.optim, plan.effective_global_batch)
    if earlier:
        say(f"going on with {earlier.folder}")
    say(f"{plan}; {plan.steps_per_epoch} steps an epoch over {plan.films} films")
    if plan.effective_global_batch < plan.global_batch:
        say(
            f"warning: {plan.films} training films are fewer than the global batch of {plan.global_batch}; "
            "each epoch is one step over all of them"
        )
    if config.optim.optimizer in ("adam", "adamw") and peak > ADAM_LIMIT:
        say(
            f"warning: linear scaling takes {config.optim.optimizer} to a learning rate of {peak:g}; it seldom trains "
            f"above {ADAM_LIMIT:g}. Give base_batch=0 to use base_lr as it is, or optimizer=lars or lamb"
        )


def _job_folder(
    config: TrainingConfig, dataset: Dataset, plan: BatchPlan, earlier: Job | None, run: TrackedRun
) -> Path:
    if earlier:
        return earlier.folder
    job = Job(make_job_folder(Path(config.out), config.model.arch), run.run_id, job_settings(config, dataset, plan))
    job.write()
    return job.folder


def _first_state(
    config: TrainingConfig,
    dataset: Dataset,
    plan: BatchPlan,
    checkpoints: Checkpoints,
    communicator: Communicator,
) -> TrainingState:
    """New weights, or on the first rank those of the newest checkpoint; other ranks get the first one's afterwards."""
    newest = checkpoints.newest()
    # One rank reads or downloads the initial weights, and none if it goes on with a checkpoint.
    weights = "none" if newest else communicator.choose(lambda: config.model.weights, lambda: "none")
    with weights_file(weights) as file:
        classifier = build_classifier(
            replace(config.model, weights=weights),
            choose_precision(config.model.precision),
            dataset.image_size,
            dataset.split("train").labels.mean(axis=0),
            config.seed,
            file,
        )
    head = classifier.get_layer("logits").trainable_variables
    optimizer = build_optimizer(config.optim, classifier.trainable_variables, head)
    optimizer.build(classifier.trainable_variables)
    peak = peak_learning_rate(config.optim, plan.effective_global_batch)
    schedule = LearningRate(peak, config.optim.warmup_epochs, config.epochs, config.optim.schedule, config.optim.cycles)
    state = TrainingState(classifier, optimizer, schedule, plan.steps_per_epoch, config.optim.frozen_epochs)
    if newest:
        state.restore(newest, checkpoints.best(), checkpoints.snapshots())
        say(f"from epoch {state.epoch + 1}, step {state.step + 1} of {plan.steps_per_epoch}")
    return state


def _describe_training(config: TrainingConfig, dataset: Dataset, state: TrainingState, run: TrackedRun) -> None:
    title = f"{config.model.arch} on {dataset.name}"
    run.log_metrics(_best_epoch(state), step=state.epoch)
    run.log_figure(learning_curves_figure(state.history, title), "figures/learning_curves.png")
    run.log_figure(_draw_learning_rate(config, dataset, state.learning_rate), "figures/learning_rate.png")


def _conclude(
    config: TrainingConfig,
    dataset: Dataset,
    plan: BatchPlan,
    state: TrainingState,
    probabilities: dict[str, np.ndarray],
    folder: Path,
    run: TrackedRun,
) -> None:
    """Assess the test films from the probabilities [films, findings] of each split and log figures, note and model."""
    predictions = predictions_of(dataset.split("test"), dataset.findings, probabilities["test"])
    title = f"{config.model.arch} on {dataset.name}, test films"
    assessment = assess(predictions, "test", title, folder, run, state.epoch)
    run.set_note(_note(config, dataset, plan, state, assessment))
    thresholds = youden_thresholds(dataset.split("val").labels, probabilities["val"])
    _log_model(config, dataset, state, thresholds, assessment, run)
    say(run.url())


def _settings(config: TrainingConfig, dataset: Dataset, plan: BatchPlan) -> dict[str, Any]:
    """What was asked for and all that was derived from it."""
    return {
        **flatten(config),
        "norm": config.model.chosen_norm,
        "precision": choose_precision(config.model.precision),
        "ranks": plan.ranks,
        "local_batch": plan.local_batch,
        "micro_steps": plan.micro_steps,
        "global_batch": plan.global_batch,
        "effective_gbz": plan.effective_global_batch,
        "steps_per_epoch": plan.steps_per_epoch,
        "peak_lr": peak_learning_rate(config.optim, plan.effective_global_batch),
        "image_size": dataset.image_size,
        "data_name": dataset.name,
        "data_digest": dataset.digest,
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
        "radflow.task": task_of(dataset.findings),
        "radflow.data_name": dataset.name,
        "radflow.data_digest": dataset.digest,
    }


def _best_epoch(state: TrainingState) -> dict[str, float]:
    best = state.best_epoch or 0
    return {"best/epoch": best + 1, "best/val_auc": state.history[best]["val/auc/mean"]}


def _draw_learning_rate(config: TrainingConfig, dataset: Dataset, learning_rate: LearningRate) -> Figure:
    """The schedule over all epochs, at one point a pixel; after training it shows where a plateau lowered the rate."""
    epochs = np.linspace(0, learning_rate.epochs, 1000, endpoint=False).tolist()
    title = f"{config.model.arch} on {dataset.name}, schedule {learning_rate.schedule}"
    return learning_rate_figure(epochs, [learning_rate.at(epoch) for epoch in epochs], title)


def _note(
    config: TrainingConfig,
    dataset: Dataset,
    plan: BatchPlan,
    state: TrainingState,
    assessment: Assessment,
) -> str:
    # The first epoch includes tracing of the graph; the median says what training costs.
    facts = RunFacts(
        model=f"{config.model.arch}, norm {config.model.chosen_norm}",
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        films={split: counts.rows for split, counts in dataset.manifest.splits.items()},
        evaluated_split="test",
        ranks=plan.ranks,
        local_batch=plan.local_batch,
        micro_steps=plan.micro_steps,
        optimizer=config.optim.optimizer,
        learning_rate=state.learning_rate.peak,
        epochs=state.epoch,
        images_per_second=float(np.nanmedian([epoch["throughput/images_per_second"] for epoch in state.history])),
        seconds_per_epoch=float(np.nanmedian([epoch["throughput/seconds_per_epoch"] for epoch in state.history])),
    )
    return summary_markdown(facts, assessment.results, assessment.mean_interval, assessment.groups)


def _log_model(
    config: TrainingConfig,
    dataset: Dataset,
    state: TrainingState,
    thresholds: np.ndarray,
    assessment: Assessment,
    run: TrackedRun,
) -> None:
    params = {
        FINDINGS_PARAM: ",".join(dataset.findings),
        THRESHOLDS_PARAM: ",".join(f"{threshold:.9g}" for threshold in thresholds),
        "arch": config.model.arch,
        "norm": config.model.chosen_norm,
        "data_digest": dataset.digest,
    }
    run.log_model(state.classifier, _golden_film(dataset.image_size), metrics=assessment.metrics, params=params)


def _golden_film(image_size: int) -> np.ndarray:
    """A phantom with a mass and an effusion, uint8 [1, size, size]: no patient's film leaves with a model."""
    labels = [[finding in ("Mass", "Effusion") for finding in FINDINGS]]
    film = render_films(labels, min(max(image_size, SMALLEST_FILM), LARGEST_FILM), seed=0)[0]
    return resize_film(film, image_size)[np.newaxis]
