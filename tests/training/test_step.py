"""The contract of DESIGN.md: N ranks x LBZ = 1 rank x GBZ, and gradients that are what calculus says."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from radflow.cluster.batch_plan import BatchPlan, epoch_order, micro_batches
from radflow.cluster.communicator import SerialCommunicator
from radflow.data.batches import Batch
from radflow.training.loss import build_loss
from radflow.training.loss_config import LossConfig
from radflow.training.step import TrainingStep

SIZE, FINDINGS, FILMS = 8, 3, 20
GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (FILMS, SIZE, SIZE), np.uint8)
CROSS_ENTROPY = build_loss(LossConfig(), np.zeros((1, FINDINGS), bool))
LABELS = (GENERATOR.random((FILMS, FINDINGS)) < 0.4).astype(np.float32)


def small_model() -> keras.Model:
    """Convolutions without batch norm, as VGG: only then are films independent of each other."""
    keras.utils.set_random_seed(0)
    films = keras.Input((SIZE, SIZE), dtype="uint8")
    hidden = keras.layers.Rescaling(1 / 255)(keras.layers.Reshape((SIZE, SIZE, 1), dtype="float32")(films))
    hidden = keras.layers.Conv2D(4, 3, activation="relu")(hidden)
    return keras.Model(films, keras.layers.Dense(FINDINGS)(keras.layers.GlobalAveragePooling2D()(hidden)))


def batch_of(indices: np.ndarray, weights: np.ndarray) -> Batch:
    return Batch(PIXELS[indices], LABELS[indices], weights)


def train(plan: BatchPlan, epochs: int = 2) -> tuple[list[float], list[np.ndarray]]:
    """Losses and final weights; the ranks of the plan take their turns in this process, which sums as MPI would."""
    model = small_model()
    step = TrainingStep(model, CROSS_ENTROPY, keras.optimizers.SGD(0.0, momentum=0.9), SerialCommunicator())
    losses = []
    for epoch in range(epochs):
        order = epoch_order(plan.films, 0, epoch)
        for number in range(plan.steps_per_epoch):
            for rank in range(plan.ranks):
                for micro_batch in micro_batches(plan, order, number, rank):
                    step.accumulate(batch_of(*micro_batch))
            losses.append(step.reduce(min(plan.global_batch, plan.films - number * plan.global_batch)))
            step.update(0.5)
    return losses, model.get_weights()


@settings(max_examples=8, deadline=None)
@given(ranks=st.integers(1, 3), local=st.integers(1, 4), micro=st.integers(1, 3), films=st.integers(1, FILMS))
def test_the_result_does_not_depend_on_how_a_batch_is_spread(ranks, local, micro, films):
    plan = BatchPlan(ranks * local * micro, ranks, local, micro, films)
    whole = BatchPlan(plan.global_batch, 1, plan.global_batch, 1, films)
    for got, expected in zip(train(plan), train(whole), strict=True):
        for left, right in zip(got, expected, strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)


def test_one_step_of_sgd_is_the_gradient_of_the_mean_loss():
    model, reference = small_model(), small_model()
    step = TrainingStep(model, CROSS_ENTROPY, keras.optimizers.SGD(0.0), SerialCommunicator())
    step.accumulate(batch_of(np.arange(6), np.ones(6, np.float32)))
    loss = step.reduce(6)
    step.update(0.1)
    with tf.GradientTape() as tape:
        logits = reference(PIXELS[:6], training=True)
        expected_loss = keras.losses.BinaryCrossentropy(from_logits=True)(LABELS[:6], logits)
    assert loss == pytest.approx(float(expected_loss), rel=1e-5)
    gradients = tape.gradient(expected_loss, [weight.value for weight in reference.trainable_variables])
    for after, before, gradient in zip(
        model.trainable_variables, reference.trainable_variables, gradients, strict=True
    ):
        np.testing.assert_allclose(after, before - 0.1 * gradient, rtol=1e-4, atol=1e-7)


def test_a_film_of_weight_zero_leaves_no_trace():
    with_filler, without = (
        TrainingStep(small_model(), CROSS_ENTROPY, keras.optimizers.SGD(0.0), SerialCommunicator()) for _ in range(2)
    )
    with_filler.accumulate(batch_of(np.array([0, 1, 2, 3]), np.array([1, 1, 0, 0], np.float32)))
    without.accumulate(batch_of(np.array([0, 1]), np.ones(2, np.float32)))
    assert with_filler.reduce(2) == pytest.approx(without.reduce(2), rel=1e-6)
