"""Everything that training changes, and how it is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from radflow.cluster.batch_plan import BatchPlan, BatchSchedule
from radflow.cluster.communicator import Communicator, share_from_first
from radflow.optim.body_and_head import BodyAndHead
from radflow.optim.learning_rate import LearningRate
from radflow.training.checkpoint import Checkpoint
from radflow.training.weight_average import WeightAverage

Metrics = dict[str, float]
"""Metrics of an epoch by their keys."""


@dataclass
class TrainingState:
    """Weights, optimiser and what has been seen so far; a checkpoint holds it as it was after an optimiser step."""

    classifier: keras.Model
    optimizer: keras.optimizers.Optimizer | BodyAndHead
    """Built for the classifier's weights."""
    learning_rate: LearningRate
    batches: BatchSchedule
    frozen_epochs: float = 0.0
    """Epochs at the start in which only the head learns."""
    ema: float = 0.0
    """Decay of the average of the weights, which is what is evaluated and saved; 0 is none."""
    history: list[Metrics] = field(default_factory=list)
    """Metrics of the finished epochs."""
    step_losses: list[float] = field(default_factory=list)
    """Loss of each step of the epoch in progress, summed over its films."""
    best_epoch: int | None = None
    """Place in the history of the first epoch with the highest score."""
    best_weights: list[np.ndarray] = field(default_factory=list)
    snapshots: dict[int, list[np.ndarray]] = field(default_factory=dict)
    """Weights at the ends of the cycles of a cyclic schedule, by number of epochs."""

    def __post_init__(self) -> None:
        """Begin the average at the weights."""
        self.average = WeightAverage(self.classifier.trainable_variables, self.ema)

    @property
    def variables(self) -> list[tf.Variable | keras.Variable]:
        """What training changes beside the weights: the optimiser's variables and the average."""
        return [*self.optimizer.variables, *self.average.variables]

    @property
    def epoch(self) -> int:
        """The epoch in progress, counted from 0."""
        return len(self.history)

    @property
    def plan(self) -> BatchPlan:
        """The batches of the epoch in progress."""
        return self.batches.of_epoch(self.epoch)

    @property
    def total_steps(self) -> int:
        """Optimiser steps that the weights contain.

        The optimiser counts them in the graph that updates the weights, so that no signal comes between the two.
        """
        return int(self.optimizer.iterations)

    @property
    def step(self) -> int:
        """Steps done of the epoch in progress; all of them while it is validated."""
        return self.total_steps - self.batches.steps_before(self.epoch)

    def middle_of_step(self, number: int) -> float:
        """Position of training in step `number` of the epoch in progress, in epochs."""
        return self.epoch + (number + 0.5) / self.plan.steps_per_epoch

    def is_frozen(self, number: int) -> bool:
        """Whether only the head learns in step `number` of the epoch in progress."""
        return self.middle_of_step(number) < self.frozen_epochs

    def is_best(self, metrics: Metrics) -> bool:
        """Whether an epoch is better than all before it.

        It is if it was found so before: the job died after its weights were kept, and validates it again.
        """
        if self.best_epoch is None or self.best_epoch >= self.epoch:
            return True
        return score(metrics) > score(self.history[self.best_epoch])

    def best_so_far(self) -> Metrics:
        """Number of the best finished epoch, from 1, and its mean AUC."""
        best = len(self.history) - 1 if self.best_epoch is None else self.best_epoch
        return {"best/epoch": best + 1, "best/val_auc": self.history[best]["val/auc/mean"]}

    def is_stalled(self, patience: int) -> bool:
        """Whether the last `patience` epochs were no better than the best before them; never if `patience` is 0."""
        return bool(patience) and self.best_epoch is not None and self.epoch - 1 - self.best_epoch >= patience

    def checkpoint(self) -> Checkpoint:
        """All of it but the best weights, of which it knows the epoch."""
        progress = {
            "history": self.history,
            "step_losses": self.step_losses[: self.step],
            "best_epoch": self.best_epoch,
        }
        return Checkpoint(self.classifier.get_weights(), [np.asarray(each) for each in self.variables], progress)

    def best_checkpoint(self) -> Checkpoint:
        """The best weights and their epoch."""
        return Checkpoint(self.best_weights, [], {"best_epoch": self.best_epoch})

    def restore(self, checkpoint: Checkpoint, best: Checkpoint | None, snapshots: dict[int, list[np.ndarray]]) -> None:
        """Take what checkpoints of a job of the same model and optimiser hold; `share` completes it."""
        self.snapshots = snapshots
        self.history = checkpoint.progress["history"]
        self.step_losses = checkpoint.progress["step_losses"]
        known = checkpoint.progress["best_epoch"]
        # An older best is what a full disk has left: the weights of the epoch that was better are lost.
        if best is not None and (known is None or best.progress["best_epoch"] >= known):
            self.best_epoch, self.best_weights = best.progress["best_epoch"], best.weights
        self.classifier.set_weights(checkpoint.weights)
        for variable, value in zip(self.variables, checkpoint.optimizer, strict=True):
            variable.assign(value)

    def share(self, communicator: Communicator) -> None:
        """Give every rank the state of the first one."""
        own = {"history": self.history, "step_losses": self.step_losses, "best_epoch": self.best_epoch}
        own |= {"snapshots": list(self.snapshots)}
        shared = share_from_first(communicator, lambda: own)
        self.history, self.step_losses, self.best_epoch, kept = (shared[name] for name in own)
        # The rate on a plateau depends on the validation losses alone.
        for metrics in self.history:
            self.learning_rate.observe(metrics["val/loss"])
        if self.best_epoch is not None:
            self.best_weights = self._share_weights(self.best_weights, communicator)
        self.snapshots = {epoch: self._share_weights(self.snapshots.get(epoch), communicator) for epoch in kept}
        communicator.broadcast([*self.classifier.variables, *self.variables])

    def _share_weights(self, weights: list[np.ndarray] | None, communicator: Communicator) -> list[np.ndarray]:
        """The first rank's `weights` of the classifier, on every rank."""
        present = self.classifier.get_weights()
        communicator.on_first_rank(lambda: self.classifier.set_weights(weights))
        communicator.broadcast(self.classifier.variables)
        shared = self.classifier.get_weights()
        self.classifier.set_weights(present)
        return shared


def score(metrics: Metrics) -> float:
    """Score by which epochs are compared: mean validation AUC, or minus the loss where no finding has both classes."""
    return metrics["val/auc/mean"] if math.isfinite(metrics["val/auc/mean"]) else -metrics["val/loss"]
