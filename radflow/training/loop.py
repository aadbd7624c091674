"""The training loop. Read this file first: everything else serves one of its calls."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import keras
import numpy as np

from radflow.cluster.batch_plan import BatchPlan, epoch_order, films_of_step, micro_batches
from radflow.cluster.communicator import Communicator
from radflow.data.augmentation import Augmentation
from radflow.data.batches import gather_ahead
from radflow.data.dataset import Split
from radflow.errors import JobError
from radflow.evaluation.auc import FindingAuc, auc_per_finding, mean_auc
from radflow.models.classifier import logits_of
from radflow.optim.learning_rate import LearningRate
from radflow.tracking.run import TrackedRun
from radflow.training.assessment import predictions_of
from radflow.training.batch_statistics import BatchStatistics
from radflow.training.checkpoint import Checkpoint, write_checkpoint
from radflow.training.inference import SplitPredictor, mean_loss
from radflow.training.progress import EpochProgress
from radflow.training.step import TrainingStep

DIVERGED = "the loss is not finite in {}, at learning rate {:.3g}; lower base_lr or lengthen warmup_epochs"

History = list[dict[str, float]]
"""The metrics of each epoch, by their keys."""


@dataclass
class TrainingState:
    """What training changes: the weights, the optimiser and the learning-rate schedule."""

    classifier: keras.Model
    optimizer: keras.optimizers.Optimizer
    learning_rate: LearningRate


@dataclass(frozen=True)
class Reporting:
    """Where an epoch's results go: on all ranks but the first a silent run, a silent progress and no folder."""

    run: TrackedRun
    progress: EpochProgress
    checkpoint_folder: Path | None


def fit(
    state: TrainingState,
    train: Split,
    validation: Split,
    findings: tuple[str, ...],
    plan: BatchPlan,
    seed: int,
    communicator: Communicator,
    reporting: Reporting,
    augmentation: Augmentation,
) -> History:
    """Train for the epochs of the learning-rate schedule; the classifier ends with the weights of its best epoch.

    The best epoch is the first with the highest `score`.

    Raises
    ------
    JobError
        The loss is not finite (the weights are those before the step), or the weights of two ranks differ.
    """
    logits = logits_of(state.classifier)
    step = TrainingStep(logits, state.optimizer, communicator)
    statistics = BatchStatistics(logits, plan, communicator)
    predictor = SplitPredictor(state.classifier, plan.local_batch, communicator)
    history: History = []
    best_weights = state.classifier.get_weights()
    for epoch in range(state.learning_rate.epochs):
        reporting.progress.start_epoch(epoch, state.learning_rate.epochs, len(train))
        order = epoch_order(plan.films, seed, epoch)
        metrics = train_epoch(
            step, state.learning_rate, train, plan, epoch, order, communicator, reporting.progress, augmentation
        )
        statistics.estimate(train, order)
        check_equal_weights(state.classifier, communicator)

        probabilities = predictor.predict(validation)
        where = f"the validation after epoch {epoch + 1}"
        check_finite(probabilities, where, metrics["optim/learning_rate"], communicator)
        results = auc_per_finding(predictions_of(validation, findings, probabilities))
        metrics |= validation_metrics(mean_loss(validation.labels, probabilities), results)
        state.learning_rate.observe(metrics["val/loss"])

        is_best = not history or score(metrics) > max(map(score, history))
        history.append(metrics)
        if is_best:
            best_weights = state.classifier.get_weights()
        reporting.run.log_metrics(metrics, step=epoch + 1)
        save_checkpoints(reporting.checkpoint_folder, state, epoch, is_best)
        reporting.progress.end_epoch(epoch_summary(metrics))
    state.classifier.set_weights(best_weights)
    return history


def score(metrics: dict[str, float]) -> float:
    """By which epochs are compared: mean validation AUC, or minus the loss where no finding has both classes."""
    return metrics["val/auc/mean"] if math.isfinite(metrics["val/auc/mean"]) else -metrics["val/loss"]


def train_epoch(
    step: TrainingStep,
    learning_rate: LearningRate,
    train: Split,
    plan: BatchPlan,
    epoch: int,
    order: np.ndarray,
    communicator: Communicator,
    progress: EpochProgress,
    augmentation: Augmentation,
) -> dict[str, float]:
    """One pass over the training films in this order; returns loss, learning rate and throughput of all ranks."""
    per_step = [list(micro_batches(plan, order, number, communicator.rank)) for number in range(plan.steps_per_epoch)]
    augment = partial(augmentation.apply, epoch=epoch)
    batches = gather_ahead(train, (micro_batch for micro_steps in per_step for micro_batch in micro_steps), augment)
    started, loss_sum, rate = time.perf_counter(), 0.0, 0.0
    for number, micro_steps in enumerate(per_step):
        films = len(films_of_step(plan, order, number))
        for _ in micro_steps:
            step.accumulate(next(batches))
        loss = step.reduce(films)
        rate = learning_rate.at(epoch + (number + 0.5) / plan.steps_per_epoch)
        check_finite(loss, f"epoch {epoch + 1}, step {number + 1}", rate, communicator)
        step.update(rate)
        loss_sum += loss * films
        progress.advance(min((number + 1) * plan.global_batch, plan.films), loss)
    seconds = time.perf_counter() - started
    return {
        "train/loss": loss_sum / plan.films,
        "optim/learning_rate": rate,
        "throughput/images_per_second": plan.films / seconds,
        "throughput/seconds_per_epoch": seconds,
    }


def check_finite(values: np.ndarray | float, where: str, rate: float, communicator: Communicator) -> None:
    """Stop all ranks, which have computed the same values, unless they are finite."""
    if not np.isfinite(values).all():
        communicator.together(lambda: _fail(DIVERGED.format(where, rate)))


def check_equal_weights(classifier: keras.Model, communicator: Communicator) -> None:
    """Stop all ranks unless a SHA-256 of their weights is the same."""
    digest = hashlib.sha256(b"".join(weight.tobytes() for weight in classifier.get_weights())).digest()
    digests = communicator.gather(np.frombuffer(digest, np.uint8)[np.newaxis])
    differing = np.flatnonzero((digests != digests[0]).any(axis=1)).tolist()
    if differing:
        reason = f"the weights of ranks {differing} differ from those of rank 0; stopped before validation"
        communicator.together(lambda: _fail(reason))


def _fail(reason: str) -> NoReturn:
    raise JobError(reason)


def validation_metrics(loss: float, results: dict[str, FindingAuc]) -> dict[str, float]:
    """Loss, mean AUC and AUC per finding under their metric keys."""
    areas = {f"val/auc/{finding}": result.auc for finding, result in results.items()}
    return {"val/loss": loss, "val/auc/mean": mean_auc(results)} | areas


def save_checkpoints(folder: Path | None, state: TrainingState, epoch: int, is_best: bool) -> None:
    """Replace last.npz, and best.npz after the best epoch so far."""
    if folder is None:
        return
    progress = {"epoch": epoch + 1, "learning_rate": asdict(state.learning_rate)}
    optimizer = [variable.numpy() for variable in state.optimizer.variables]
    checkpoint = Checkpoint(state.classifier.get_weights(), optimizer, progress)
    for name in ("last.npz", "best.npz") if is_best else ("last.npz",):
        write_checkpoint(folder / name, checkpoint)


def epoch_summary(metrics: dict[str, float]) -> str:
    """An epoch in one line."""
    return (
        f"train loss {metrics['train/loss']:.4f}  val loss {metrics['val/loss']:.4f}  "
        f"val AUC {metrics['val/auc/mean']:.4f}  {metrics['throughput/images_per_second']:.1f} images/s  "
        f"{metrics['throughput/seconds_per_epoch']:.0f} s"
    )
