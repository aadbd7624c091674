"""In a frozen step the body is what it was, to the last bit: weights, batch statistics and features."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from radflow.cluster.batch_plan import BatchPlan, BatchSchedule
from radflow.cluster.communicator import SerialCommunicator
from radflow.data.batches import Batch
from radflow.errors import UserError
from radflow.models.config import ModelConfig
from radflow.optim.config import OptimizerConfig
from radflow.optim.factory import build_optimizer
from radflow.optim.learning_rate import LearningRate
from radflow.training.config import TrainConfig
from radflow.training.loss import build_loss
from radflow.training.loss_config import LossConfig
from radflow.training.state import TrainingState
from radflow.training.step import TrainingStep

SIZE, FILMS = 8, 6
LABELS = np.array([[1], [0], [1], [1], [0], [0]], np.float32)
BATCH = Batch(
    np.random.default_rng(0).integers(0, 256, (FILMS, SIZE, SIZE), np.uint8), LABELS, np.ones(FILMS, np.float32)
)


TWO_STEPS = BatchSchedule(BatchPlan(global_batch=1, ranks=1, local_batch=1, micro_steps=1, films=2))


def model_with_batch_norm() -> keras.Model:
    keras.utils.set_random_seed(0)
    films = keras.Input((SIZE, SIZE), dtype="uint8")
    hidden = keras.layers.Rescaling(1 / 255)(keras.layers.Reshape((SIZE, SIZE, 1), dtype="float32")(films))
    hidden = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(hidden))
    return keras.Model(films, keras.layers.Dense(1, name="logits")(keras.layers.GlobalAveragePooling2D()(hidden)))


def take_step(step: TrainingStep, frozen: bool) -> None:
    step.accumulate(BATCH, frozen)
    step.reduce(FILMS)
    step.update(0.1, frozen)


def test_only_the_head_moves_and_as_calculus_says():
    model = model_with_batch_norm()
    optimizer = build_optimizer(
        OptimizerConfig(optimizer="sgd", momentum=0.0, frozen_epochs=1),
        model.trainable_variables,
        model.layers[-1].weights,
    )
    step = TrainingStep(model, build_loss(LossConfig(), LABELS.astype(bool)), optimizer, SerialCommunicator())
    features = keras.Model(model.input, model.layers[-2].output).predict(BATCH.films, verbose=0).astype(np.float64)
    *body, kernel, bias = model.get_weights()
    take_step(step, frozen=True)
    *body_after, kernel_after, bias_after = model.get_weights()
    for before, after in zip(body, body_after, strict=True):
        np.testing.assert_array_equal(before, after)
    # Logistic regression on the features: the gradient is features x (probability - label), in the mean over films.
    excess = 1 / (1 + np.exp(-(features @ kernel + bias))) - LABELS
    np.testing.assert_allclose(kernel_after, kernel - 0.1 * features.T @ excess / FILMS, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(bias_after, bias - 0.1 * excess.mean(axis=0), rtol=1e-4, atol=1e-7)


def test_afterwards_the_body_moves_and_every_step_counts():
    model = model_with_batch_norm()
    config = OptimizerConfig(optimizer="adam", frozen_epochs=1)
    optimizer = build_optimizer(config, model.trainable_variables, model.layers[-1].weights)
    step = TrainingStep(model, build_loss(LossConfig(), LABELS.astype(bool)), optimizer, SerialCommunicator())
    before = model.get_weights()
    for frozen in (True, False):
        take_step(step, frozen)
    assert all((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))
    assert int(optimizer.iterations) == 2


@pytest.mark.parametrize(("frozen_epochs", "expected"), [(0, [0, 0, 0, 0]), (1, [1, 1, 0, 0]), (0.5, [1, 0, 0, 0])])
def test_which_steps_are_frozen(frozen_epochs, expected):
    rate = LearningRate(0.1, 0, 2, "constant")
    state = TrainingState(model_with_batch_norm(), keras.optimizers.SGD(), rate, TWO_STEPS, frozen_epochs)
    frozen = [state.is_frozen(0), state.is_frozen(1)]
    state.history.append({"val/loss": 0.0})
    assert [*frozen, state.is_frozen(0), state.is_frozen(1)] == [bool(each) for each in expected]


@pytest.mark.parametrize(
    ("frozen_epochs", "weights", "message"),
    [(3, "imagenet", "frozen_epochs=3 of epochs=3"), (1, "none", "freeze random weights")],
)
def test_mistakes(frozen_epochs, weights, message):
    with pytest.raises(UserError, match=message):
        TrainConfig(epochs=3, optim=OptimizerConfig(frozen_epochs=frozen_epochs), model=ModelConfig(weights=weights))
