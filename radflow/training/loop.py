"""The training loop. Read this file first: everything else serves one of its calls."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

from radflow.cluster.batch_plan import BatchPlan, epoch_order, films_of_step, micro_batches
from radflow.cluster.communicator import Communicator
from radflow.data.batches import gather_ahead
from radflow.data.dataset import Split
from radflow.evaluation.auc import FindingAuc, auc_per_finding, mean_auc
from radflow.models.classifier import logits_of
from radflow.optim.learning_rate import LearningRate
from radflow.tracking.run import TrackedRun
from radflow.training.assessment import predictions_of
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
) -> History:
    """Train for the epochs of the learning-rate schedule; the classifier ends with the weights of its best epoch.

    The best epoch is the one with the highest mean validation AUC (lowest loss where no finding has both classes).

    Raises
    ------
    FloatingPointError
        The loss is not finite; the weights are those before the step.
    RuntimeError
        The weights of two ranks differ.
    """
    step = TrainingStep(logits_of(state.classifier), state.optimizer, communicator)
    predictor = SplitPredictor(state.classifier, plan.local_batch, communicator)
    history: History = []
    best_score, best_weights = -math.inf, state.classifier.get_weights()
    for epoch in range(state.learning_rate.epochs):
        reporting.progress.start_epoch(epoch, state.learning_rate.epochs, len(train))
        metrics = train_epoch(step, state.learning_rate, train, plan, epoch, seed, communicator, reporting.progress)
        average_moving_statistics(state.classifier, communicator)
        check_equal_weights(state.classifier, communicator)

        probabilities = predictor.predict(validation)
        check_finite(probabilities, epoch, metrics["optim/learning_rate"])
        results = auc_per_finding(predictions_of(validation, findings, probabilities))
        metrics |= validation_metrics(mean_loss(validation.labels, probabilities), results)
        state.learning_rate.observe(metrics["val/loss"])
        history.append(metrics)

        score = metrics["val/auc/mean"] if math.isfinite(metrics["val/auc/mean"]) else -metrics["val/loss"]
        is_best = score > best_score
        if is_best:
            best_score, best_weights = score, state.classifier.get_weights()
        reporting.run.log_metrics(metrics, step=epoch + 1)
        save_checkpoints(reporting.checkpoint_folder, state, epoch, is_best)
        reporting.progress.end_epoch(epoch_summary(metrics))
    state.classifier.set_weights(best_weights)
    return history


def train_epoch(
    step: TrainingStep,
    learning_rate: LearningRate,
    train: Split,
    plan: BatchPlan,
    epoch: int,
    seed: int,
    communicator: Communicator,
    progress: EpochProgress,
) -> dict[str, float]:
    """One pass over the training films; returns loss, learning rate and throughput of all ranks together."""
    order = epoch_order(plan.films, seed, epoch)
    per_step = [list(micro_batches(plan, order, number, communicator.rank)) for number in range(plan.steps_per_epoch)]
    batches = gather_ahead(train, (micro_batch for micro_steps in per_step for micro_batch in micro_steps))
    started, loss_sum, rate = time.perf_counter(), 0.0, 0.0
    for number, micro_steps in enumerate(per_step):
        films = len(films_of_step(plan, order, number))
        for _ in micro_steps:
            step.accumulate(next(batches))
        loss = step.reduce(films)
        rate = learning_rate.at(epoch + (number + 0.5) / plan.steps_per_epoch)
        if not math.isfinite(loss):
            raise FloatingPointError(DIVERGED.format(f"epoch {epoch + 1}, step {number + 1}", rate))
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


def check_finite(probabilities: np.ndarray, epoch: int, rate: float) -> None:
    """Stop after an update that left weights without a finite output."""
    if not np.isfinite(probabilities).all():
        raise FloatingPointError(DIVERGED.format(f"the validation after epoch {epoch + 1}", rate))


def average_moving_statistics(classifier: keras.Model, communicator: Communicator) -> None:
    """Give every rank the mean of all ranks' moving batch statistics; each has seen other films."""
    statistics = [
        variable
        for layer in classifier._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
        for variable in layer.non_trainable_variables
    ]
    if statistics:
        sums = communicator.sum_tensors([variable.value for variable in statistics])
        for variable, total in zip(statistics, sums, strict=True):
            variable.assign(total / communicator.size)


def check_equal_weights(classifier: keras.Model, communicator: Communicator) -> None:
    """Compare a SHA-256 of the weights over all ranks."""
    digest = hashlib.sha256(b"".join(weight.tobytes() for weight in classifier.get_weights())).digest()
    digests = communicator.gather(np.frombuffer(digest, np.uint8)[np.newaxis])
    if (digests != digests[0]).any():
        differing = np.flatnonzero((digests != digests[0]).any(axis=1)).tolist()
        raise RuntimeError(f"the weights of ranks {differing} differ from those of rank 0; stopped before validation")


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
