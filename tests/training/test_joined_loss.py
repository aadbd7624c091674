"""Training on several datasets: an unlabelled finding is never counted as absent."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from radflow.data.dataset.shards import FilmTable
from radflow.training.loss import build_loss
from radflow.training.loss_config import LossConfig
from radflow.training.targets import training_targets


def test_the_loss_of_an_unlabelled_finding_is_zero_by_hand() -> None:
    """Two films: the first of a dataset with Mass alone, the second of one with Edema alone, both present.

    With logits of 0 each labelled finding costs log 2, and half of that in the average over two findings; a model that
    says that the unlabelled ones are absent gains nothing by it.
    """
    table = FilmTable(
        image_ids=np.array(["a/1", "b/1"]),
        patient_ids=np.array(["a/1", "b/1"]),
        views=np.full(2, "PA"),
        splits=np.full(2, "train"),
        labels=np.array([[1, 0], [0, 1]], bool),
        known=np.array([[1, 0], [0, 1]], bool),
    )
    targets = training_targets(table, ("Mass", "Edema"), "ignore")
    loss = build_loss(LossConfig(), targets)
    np.testing.assert_allclose(loss(tf.constant(targets), tf.zeros((2, 2))), np.full(2, np.log(2) / 2), rtol=1e-6)
    absent = tf.constant([[0.0, -9.0], [-9.0, 0.0]])
    np.testing.assert_allclose(loss(tf.constant(targets), absent), np.full(2, np.log(2) / 2), rtol=1e-6)
