"""Probabilities of a whole split, computed by all ranks together."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from radflow.cluster.communicator import Communicator, SerialCommunicator
from radflow.cluster.watchdog import PREDICTING
from radflow.data.batches import gather_ahead
from radflow.data.dataset.reading import Split
from radflow.inference.graph import inference_graph
from radflow.models.twin import twin_of


class SplitPredictor:
    """Predicts splits; each rank takes an equal share of the films, and every rank gets all probabilities."""

    def __init__(self, classifier: keras.Model, batch: int, communicator: Communicator | None = None) -> None:
        self.classifier = classifier
        self._batch = batch
        self._communicator = communicator or SerialCommunicator()
        self._predict = inference_graph(twin_of(classifier), batch)

    def predict(self, split: Split) -> np.ndarray:
        """Probabilities float32 [films, findings] in the order of the split."""
        share = -(-len(split) // self._communicator.size)
        own = np.arange(self._communicator.rank * share, min((self._communicator.rank + 1) * share, len(split)))
        # The last batch repeats films up to full size: one shape, one traced function.
        starts = range(0, len(own), self._batch)
        weights = np.ones(self._batch, np.float32)
        selections = ((np.resize(own[start : start + self._batch], self._batch), weights) for start in starts)
        rows = []
        for batch in gather_ahead(split, selections):
            self._communicator.heartbeat(PREDICTING)
            rows.append(self._predict(tf.convert_to_tensor(batch.films)).numpy())
        mine = np.concatenate(rows)[: len(own)] if rows else np.zeros((0, split.labels.shape[1]), np.float32)
        return self._communicator.allgather(mine)
