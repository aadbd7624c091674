"""The training loop. Read this file first: everything else serves one of its calls."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, NoReturn

import keras
import numpy as np

from radflow.cluster.batch_plan import epoch_order, films_of_step, micro_batches
from radflow.cluster.communicator import Communicator
from radflow.data.augmentation import Augmentation
from radflow.data.batches import Batch, gather_ahead
from radflow.data.dataset.reading import Dataset, Split
from radflow.data.findings import key_of
from radflow.errors import JobError
from radflow.evaluation.auc import FindingAuc, auc_per_finding, mean_auc
from radflow.evaluation.cross_entropy import mean_cross_entropy
from radflow.inference.split_predictor import SplitPredictor
from radflow.models.classifier import average_of_snapshots, build_logits_model
from radflow.terminal import warn
from radflow.tracking.run import TrackedRun
from radflow.training.assessment import predictions_of
from radflow.training.batch_statistics import BatchStatistics
from radflow.training.checkpoint import Checkpoints
from radflow.training.config import TrainingConfig
from radflow.training.divergence import DIVERGED
from radflow.training.gradient_sum import sum_as_float16, sum_as_float32
from radflow.training.history import write_epoch
from radflow.training.loss import build_loss
from radflow.training.mfu import peak_images_per_second
from radflow.training.progress import EpochProgress
from radflow.training.state import Metrics, TrainingState
from radflow.training.step import TrainingStep
from radflow.training.targets import training_targets

TIMELINE = "timeline.json"

BEST_IS_LOST = "the weights of the best epoch are lost; the model has those of the last epoch"


@dataclass(frozen=True)
class Reporting:
    """The places that results go to; run, progress and checkpoints are silent on all ranks but the first."""

    run: TrackedRun
    progress: EpochProgress
    checkpoints: Checkpoints
    folder: Path
    """The job's own, into which the first rank alone writes."""


def fit(
    state: TrainingState,
    dataset: Dataset,
    config: TrainingConfig,
    communicator: Communicator,
    reporting: Reporting,
) -> SplitPredictor:
    """Train from where `state` stands to the last epoch of its learning-rate schedule, or until it stalls.

    The classifier ends with the weights of its best epoch, or as the average of its snapshots. Returns what
    predicts with it.

    Raises
    ------
    JobError
        The loss is not finite (the weights are those before the step), or the weights of two ranks differ.
    """
    train = dataset.split("train")
    logits = build_logits_model(state.classifier, communicator.allreduce_sum)
    targets = training_targets(train.table, dataset.findings, config.objective.uncertain)
    loss = build_loss(config.objective, targets)
    sum_gradients = sum_as_float16 if config.sends_float16 else sum_as_float32
    step = TrainingStep(logits, loss, state.optimizer, communicator, state.average, sum_gradients)
    statistics = BatchStatistics(logits, state.batches.full, communicator)
    predictor = SplitPredictor(state.classifier, state.batches.full.local_batch, communicator)
    peak = peak_images_per_second(state.classifier, communicator)
    augmentation = Augmentation(config.augmentation, config.seed)
    try:
        while state.epoch < state.learning_rate.epochs and not state.is_stalled(config.early_stopping):
            reporting.progress.start_epoch(state.epoch, state.learning_rate.epochs, len(train))
            order = epoch_order(len(train), config.seed, state.epoch)
            steps = steps_of_epoch(state, train, targets, order, augmentation, communicator.rank)
            with recording(state, config, communicator, reporting):
                metrics = train_epoch(step, state, steps, communicator, reporting)
            metrics["throughput/mfu"] = metrics["throughput/images_per_second"] / peak
            with state.average.in_place_of_weights():
                if not state.is_frozen(state.plan.steps_per_epoch - 1):
                    statistics.estimate(train, order)
                check_equal_weights(state.classifier, communicator)
                metrics |= _validate(predictor, dataset, state.epoch, metrics["optim/learning_rate"], communicator)
                keep_weights(state, metrics, config, reporting.checkpoints)
            end_epoch(state, metrics, communicator, reporting)
    except KeyboardInterrupt:
        reporting.checkpoints.write(state.total_steps, state.checkpoint())
        raise
    take_final_weights(state, config, communicator)
    # The graph of the one there is has been traced.
    is_same = state.classifier is predictor.classifier
    return predictor if is_same else SplitPredictor(state.classifier, state.batches.full.local_batch, communicator)


def _validate(
    predictor: SplitPredictor, dataset: Dataset, epoch: int, rate: float, communicator: Communicator
) -> dict[str, float]:
    """Metrics of the validation films after an epoch, counted from 0; JobError where a probability is not finite."""
    validation = dataset.split("val")
    probabilities = predictor.predict(validation)
    check_finite(probabilities, f"the validation after epoch {epoch + 1}", rate, communicator)
    predictions = predictions_of(validation, dataset.findings, probabilities)
    return validation_metrics(mean_cross_entropy(predictions), auc_per_finding(predictions))


@contextmanager
def recording(
    state: TrainingState, config: TrainingConfig, communicator: Communicator, reporting: Reporting
) -> Iterator[None]:
    """Record the timeline of an epoch if the user wants it: of the second, since the first has the tracing in it."""
    if not config.records_timeline or state.epoch != min(1, state.learning_rate.epochs - 1):
        yield
        return
    timeline = reporting.folder / TIMELINE
    with communicator.recording(timeline):
        yield
    communicator.on_first_rank(lambda: reporting.run.log_file(timeline, "timeline"))


def take_final_weights(state: TrainingState, config: TrainingConfig, communicator: Communicator) -> None:
    """Let the classifier be the average of its snapshots, or have the weights of its best epoch."""
    if config.snapshots:
        state.classifier = average_of_snapshots(state.classifier, list(state.snapshots.values())[-config.snapshots :])
    elif state.best_epoch is not None:
        state.classifier.set_weights(state.best_weights)
    else:
        communicator.on_first_rank(lambda: warn(BEST_IS_LOST))
        with state.average.in_place_of_weights():
            last = state.classifier.get_weights()
        state.classifier.set_weights(last)


class Step(NamedTuple):
    """What one optimiser step is computed from."""

    number: int
    """Number within the epoch, from 0."""
    films: int
    """Number of films of all ranks together."""
    micro_batches: Iterator[Batch]
    """Those of this rank."""


def steps_of_epoch(
    state: TrainingState,
    train: Split,
    targets: np.ndarray,
    order: np.ndarray,
    augmentation: Augmentation,
    rank: int,
) -> Iterator[Step]:
    """What is left of an epoch over the films in this order, with films gathered and augmented ahead of the step."""
    plan = state.plan
    numbers = range(state.step, plan.steps_per_epoch)
    per_step = {number: list(micro_batches(plan, order, number, rank)) for number in numbers}
    selections = (micro_batch for micro_steps in per_step.values() for micro_batch in micro_steps)
    batches = gather_ahead(train, selections, partial(augmentation.apply, epoch=state.epoch), targets)
    for number, micro_steps in per_step.items():
        yield Step(number, len(films_of_step(plan, order, number)), islice(batches, len(micro_steps)))


def train_epoch(
    step: TrainingStep,
    state: TrainingState,
    steps: Iterator[Step],
    communicator: Communicator,
    reporting: Reporting,
) -> Metrics:
    """Take the steps that are left of an epoch; returns loss, learning rate and throughput."""
    plan = state.plan
    started, films_done = time.perf_counter(), 0
    step.times.restart()
    for number, films, batches in steps:
        frozen = state.is_frozen(number)
        for batch in batches:
            step.accumulate(batch, frozen)
        loss = step.reduce(films)
        learning_rate = learning_rate_of_step(state, number)
        check_finite(loss, f"epoch {state.epoch + 1}, step {number + 1}", learning_rate, communicator)
        state.step_losses.append(loss * films)
        step.update(learning_rate, frozen)
        if reporting.checkpoints.is_due():
            reporting.checkpoints.write(state.total_steps, state.checkpoint())
        films_done += films
        reporting.progress.advance(plan.first_film(number + 1), loss)
    seconds = time.perf_counter() - started
    # After a resumption only the films since then were timed; there may be none.
    per_second = films_done / seconds if films_done else math.nan
    return {
        "train/loss": sum(state.step_losses) / plan.films,
        "optim/learning_rate": learning_rate_of_step(state, plan.steps_per_epoch - 1),
        "throughput/images_per_second": per_second,
        "throughput/seconds_per_epoch": plan.films / per_second,
        **step.times.gather(communicator),
    }


def learning_rate_of_step(state: TrainingState, number: int) -> float:
    """The learning rate of a step of the epoch in progress: that of its middle."""
    return state.learning_rate.at(state.middle_of_step(number))


def keep_weights(state: TrainingState, metrics: Metrics, config: TrainingConfig, checkpoints: Checkpoints) -> None:
    """Keep the weights that were validated, if they are the best so far or those of a snapshot.

    The best are kept before the history says that they are the best: a job that dies between the two does the epoch's
    validation again.
    """
    if state.is_best(metrics):
        state.best_epoch, state.best_weights = state.epoch, state.classifier.get_weights()
        checkpoints.write_best(state.best_checkpoint())
    if config.snapshots and state.learning_rate.ends_cycle(state.epoch + 1):
        state.snapshots[state.epoch + 1] = state.classifier.get_weights()
        checkpoints.write_snapshot(state.epoch + 1, state.classifier.get_weights())


def end_epoch(state: TrainingState, metrics: Metrics, communicator: Communicator, reporting: Reporting) -> None:
    """Take the epoch's metrics into the state, and report both."""
    state.learning_rate.observe(metrics["val/loss"])
    state.history.append(metrics)
    state.step_losses = []
    # The best so far goes along as a curve: MLflow shows it first.
    reporting.run.log_metrics(metrics | state.best_so_far(), step=state.epoch)
    reporting.checkpoints.write(state.total_steps, state.checkpoint())
    communicator.on_first_rank(lambda: write_epoch(reporting.folder, state.epoch, metrics))
    reporting.progress.end_epoch(epoch_summary(metrics))


def check_finite(values: np.ndarray | float, where: str, learning_rate: float, communicator: Communicator) -> None:
    """Stop all ranks, which have computed the same values, unless they are finite."""
    if not np.isfinite(values).all():
        communicator.raise_together(lambda: _fail(DIVERGED.format(where, learning_rate)))


def check_equal_weights(classifier: keras.Model, communicator: Communicator) -> None:
    """Stop all ranks unless a SHA-256 of their weights is the same."""
    digest = hashlib.sha256(b"".join(weight.tobytes() for weight in classifier.get_weights())).digest()
    digests = communicator.allgather(np.frombuffer(digest, np.uint8)[np.newaxis])
    differing = np.flatnonzero((digests != digests[0]).any(axis=1)).tolist()
    if differing:
        reason = f"the weights of ranks {differing} differ from those of rank 0; stopped before validation"
        communicator.raise_together(lambda: _fail(reason))


def _fail(reason: str) -> NoReturn:
    raise JobError(reason)


def validation_metrics(loss: float, results: dict[str, FindingAuc]) -> Metrics:
    """Loss, mean AUC and AUC per finding under their metric keys."""
    aucs = {f"val/auc/{key_of(finding)}": result.auc for finding, result in results.items()}
    return {"val/loss": loss, "val/auc/mean": mean_auc(results)} | aucs


def epoch_summary(metrics: Metrics) -> str:
    """An epoch in one line."""
    return (
        f"train loss {metrics['train/loss']:.4f}  val loss {metrics['val/loss']:.4f}  "
        f"val AUC {metrics['val/auc/mean']:.4f}  {metrics['throughput/images_per_second']:.1f} images/s  "
        f"{metrics['throughput/seconds_per_epoch']:.0f} s"
    )
