"""The moving statistics of batch normalisation: estimated for the weights at hand, alike on all ranks."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from radflow.cluster.batch_plan import BatchPlan
from radflow.cluster.communicator import Communicator
from radflow.cluster.watchdog import PREDICTING
from radflow.data.batches import gather_ahead
from radflow.data.dataset.reading import Split

FILMS = 512
"""Films of all ranks together from which the statistics are estimated."""


class BatchStatistics:
    """Estimates what a model with batch normalisation needs before it predicts; does nothing for others.

    Training leaves moving averages of the statistics of earlier weights. In large-batch training they are useless: when
    an epoch is one step of many micro-steps, all of them predate its update. So after each epoch the averages are
    taken again, over micro-batches of the size that training normalises with (Wu & Johnson 2021, arXiv:2105.07576,
    section 3), and averaged over ranks, each of which sees other films.
    """

    def __init__(self, model: keras.Model, plan: BatchPlan, communicator: Communicator) -> None:
        self._layers = [
            layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)
        ]
        self._forward = tf.function(lambda films: model(films, training=True), autograph=False, jit_compile=False)
        self._plan = plan
        self._communicator = communicator

    def estimate(self, train: Split, order: np.ndarray) -> None:
        """Replace the moving statistics by those of the first films of `order`, int [films]; the same on every rank."""
        if not self._layers:
            return
        for _, statistic in self._statistics():
            statistic.assign(tf.zeros_like(statistic.value))
        selections = self._selections(order)
        for batch in gather_ahead(train, selections):
            self._communicator.heartbeat(PREDICTING)
            self._forward(tf.convert_to_tensor(batch.films))
        # The averages started from zero: n updates have given them a weight of 1 - momentum^n.
        with self._communicator.waiting():
            sums = self._communicator.allreduce_sum([statistic.value for _, statistic in self._statistics()])
        for (momentum, statistic), total in zip(self._statistics(), sums, strict=True):
            statistic.assign(total / (self._communicator.size * (1 - momentum ** len(selections))))

    def _selections(self, order: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Full micro-batches of this rank; a small dataset is gone through again."""
        ranks, local_batch = self._communicator.size, self._plan.local_batch
        count = -(-FILMS // (ranks * local_batch))
        films = np.resize(order, (count, ranks, local_batch))[:, self._communicator.rank]
        return [(indices, np.ones(local_batch, np.float32)) for indices in films]

    def _statistics(self) -> list[tuple[float, keras.Variable]]:
        """Each moving statistic with the momentum of its layer."""
        return [(layer.momentum, variable) for layer in self._layers for variable in layer.non_trainable_variables]
