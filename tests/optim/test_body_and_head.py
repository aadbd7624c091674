"""A body with a rate and a start of its own, against steps computed by hand and against one optimiser alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from radflow.errors import UserError
from radflow.optim.config import OptimizerConfig
from radflow.optim.factory import build_optimizer

GRADIENTS = np.random.default_rng(0).normal(size=(4, 2, 3, 2)).astype(np.float32)
"""[steps, body or head, rows, columns]"""
RULES = ("adam", "adamw", "adadelta", "sgd", "nesterov", "lars", "lamb")


def config_of(rule: str, **settings: float) -> OptimizerConfig:
    decay = 0.1 if rule in ("adamw", "lars", "lamb") else 0.0
    return OptimizerConfig(optimizer=rule, weight_decay=decay, **settings)


def two_kernels() -> list[keras.Variable]:
    start = np.linspace(-1, 1, 6).reshape(3, 2).astype(np.float32)
    return [keras.Variable(start), keras.Variable(2 * start)]


def run(config: OptimizerConfig, rate: float, frozen_steps: int = 0) -> list[np.ndarray]:
    """Body and head after all steps; in the first `frozen_steps` only the head is given to the optimiser."""
    body, head = two_kernels()
    optimizer = build_optimizer(config, [body, head], [head])
    optimizer.build([body, head])
    for number, (of_body, of_head) in enumerate(GRADIENTS):
        optimizer.learning_rate.assign(rate)
        learning = [(of_head, head)] if number < frozen_steps else [(of_body, body), (of_head, head)]
        optimizer.apply(
            [keras.ops.convert_to_tensor(gradient) for gradient, _ in learning], [kernel for _, kernel in learning]
        )
    return [np.asarray(body), np.asarray(head)]


def alone(config: OptimizerConfig, which: int, rate: float, first: int = 0) -> np.ndarray:
    """One kernel by one plain optimiser that sees its gradients from step `first` on."""
    kernel = two_kernels()[which]
    optimizer = build_optimizer(config, [kernel])
    optimizer.build([kernel])
    for gradients in GRADIENTS[first:]:
        optimizer.learning_rate.assign(rate)
        optimizer.apply([keras.ops.convert_to_tensor(gradients[which])], [kernel])
    return np.asarray(kernel)


@pytest.mark.parametrize("rule", RULES)
def test_the_body_moves_as_by_an_optimiser_at_its_share_of_the_rate(rule):
    body, head = run(config_of(rule, body_lr_factor=0.1), rate=0.5)
    np.testing.assert_allclose(body, alone(config_of(rule), 0, 0.05), rtol=1e-5)
    np.testing.assert_allclose(head, alone(config_of(rule), 1, 0.5), rtol=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_a_frozen_body_starts_as_if_training_began_with_it(rule):
    body, head = run(config_of(rule, frozen_epochs=1), rate=0.5, frozen_steps=2)
    np.testing.assert_allclose(body, alone(config_of(rule), 0, 0.5, first=2), rtol=1e-6)
    np.testing.assert_allclose(head, alone(config_of(rule), 1, 0.5), rtol=1e-6)


def test_the_first_step_of_adam_by_hand():
    """Adam's first step is the rate in the direction of the gradient's sign, whatever the gradient's size."""
    body, head = two_kernels()
    starts = [np.asarray(body).copy(), np.asarray(head).copy()]
    optimizer = build_optimizer(OptimizerConfig(optimizer="adam", body_lr_factor=0.25), [body, head], [head])
    optimizer.build([body, head])
    optimizer.learning_rate.assign(0.1)
    optimizer.apply([keras.ops.convert_to_tensor(each) for each in GRADIENTS[0]], [body, head])
    np.testing.assert_allclose(np.asarray(body), starts[0] - 0.025 * np.sign(GRADIENTS[0, 0]), rtol=1e-4)
    np.testing.assert_allclose(np.asarray(head), starts[1] - 0.1 * np.sign(GRADIENTS[0, 1]), rtol=1e-4)


def test_training_as_before_has_one_optimiser():
    body, head = two_kernels()
    assert isinstance(build_optimizer(OptimizerConfig(optimizer="adam"), [body, head], [head]), keras.optimizers.Adam)


def test_its_variables_carry_its_state():
    """What a checkpoint keeps of it is all that its next steps depend on."""
    config = config_of("adam", body_lr_factor=0.1)
    whole = run(config, rate=0.5)
    body, head = two_kernels()
    first = build_optimizer(config, [body, head], [head])
    first.build([body, head])
    first.learning_rate.assign(0.5)
    for gradients in GRADIENTS[:2]:
        first.apply([keras.ops.convert_to_tensor(each) for each in gradients], [body, head])
    second = build_optimizer(config, [body, head], [head])
    second.build([body, head])
    for new, old in zip(second.variables, first.variables, strict=True):
        new.assign(old)
    assert int(second.iterations) == 2
    for gradients in GRADIENTS[2:]:
        second.apply([keras.ops.convert_to_tensor(each) for each in gradients], [body, head])
    for got, expected in zip([body, head], whole, strict=True):
        np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-6)


@pytest.mark.parametrize("settings", [{"body_lr_factor": 0}, {"body_lr_factor": -1}, {"frozen_epochs": -0.5}])
def test_what_is_out_of_range(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        OptimizerConfig(**settings)
