"""One optimiser step: accumulate the gradients of micro-batches, sum them over ranks once, update."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from radflow.cluster.communicator import Communicator
from radflow.cluster.watchdog import COMPUTING
from radflow.data.batches import Batch
from radflow.optim.body_and_head import BodyAndHead
from radflow.training.gradient_sum import SumGradients, sum_as_float32
from radflow.training.graph_rewrites import limit_graph_rewrites
from radflow.training.loss import Loss
from radflow.training.rank_times import RankTimes
from radflow.training.weight_average import WeightAverage


class TrainingStep:
    """The step as three calls: `accumulate` each micro-batch, `reduce` over ranks, `update` the weights.

    Gradients are sums over films and are divided by the number of films of the whole global batch, so a short last
    batch weighs each film alike and N ranks x LBZ equals 1 rank x GBZ.

    Where there is an `average` of the weights, an update moves it too.

    In a `frozen` step only the last layer, the head, learns; the body is computed as in prediction, by its moving
    statistics, which stay too.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: Loss,
        optimizer: keras.optimizers.Optimizer | BodyAndHead,
        communicator: Communicator,
        average: WeightAverage | None = None,
        sum_gradients: SumGradients = sum_as_float32,
    ) -> None:
        limit_graph_rewrites(model)
        self._model = model
        self._loss = loss
        self._optimizer = optimizer
        self._communicator = communicator
        self._sum_gradients = sum_gradients
        self.times = RankTimes()
        self._average = average
        self._weights = model.trainable_variables
        self._head = model.layers[-1].trainable_variables
        # One vector of all gradients, and of the loss: a graph of few operations, and one tensor to sum over ranks.
        self._sums = tf.Variable(tf.zeros(sum(_sizes(self._weights)) + 1), trainable=False)
        optimizer.build(self._weights)

    def accumulate(self, batch: Batch, frozen: bool = False) -> None:
        """Add the gradients of one micro-batch to the sums of this rank."""
        self._communicator.heartbeat(COMPUTING)
        self._accumulate(*(tf.convert_to_tensor(array) for array in batch), frozen)

    def reduce(self, films: int) -> float:
        """Sum over all ranks and divide by `films`, those of the whole global batch; return its mean loss."""
        with self.times.summing(), self._communicator.waiting():
            return float(self._reduce(tf.constant(films, tf.float32)))

    def update(self, learning_rate: float, frozen: bool = False) -> None:
        """Apply the reduced gradients, and set the sums back to zero."""
        self._optimizer.learning_rate.assign(learning_rate)
        with self._communicator.waiting():  # for directions that other ranks compute
            self._update(frozen)

    @tf.function(autograph=False, jit_compile=False)
    def _accumulate(self, films: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, frozen: bool) -> None:
        learning = self._learning(frozen)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(weights * self._loss(labels, self._model(films, training=not frozen)))
        gradients = tape.gradient(loss, [weight.value for weight in learning])
        still = tf.zeros(self._sums.shape[0] - 1 - sum(_sizes(learning)))
        flat = [tf.reshape(gradient, [-1]) for gradient in gradients]
        self._sums.assign_add(tf.concat([still, *flat, loss[tf.newaxis]], 0))

    @tf.function(autograph=False, jit_compile=False)
    def _reduce(self, films: tf.Tensor) -> tf.Tensor:
        means = self._sum_gradients(self._communicator, tf.convert_to_tensor(self._sums)) / films
        self._sums.assign(means)
        return means[-1]

    @tf.function(autograph=False, jit_compile=False)
    def _update(self, frozen: bool) -> None:
        learning = self._learning(frozen)
        *flat, _loss = tf.split(self._sums, [*_sizes(self._weights), 1])
        gradients = [
            tf.reshape(part, weight.shape) for part, weight in zip(flat[-len(learning) :], learning, strict=True)
        ]
        self._optimizer.apply(gradients, learning)
        if self._average:
            self._average.update(self._optimizer.iterations.value)
        self._sums.assign(tf.zeros_like(self._sums))

    def _learning(self, frozen: bool) -> list[keras.Variable]:
        """The weights that learn in a step: all, or the head's, which are the last."""
        return self._head if frozen else self._weights


def _sizes(weights: list[keras.Variable]) -> list[int]:
    return [math.prod(weight.shape) for weight in weights]
