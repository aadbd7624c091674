"""Optimisers against the formulae of their papers, and by hand."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_steps import take_steps, variables_of
from papers_optimizers import REFERENCES

from radflow.cluster.communicator import SerialCommunicator
from radflow.data.batches import Batch
from radflow.errors import UserError
from radflow.optim.config import OptimizerConfig
from radflow.optim.exclusions import is_bias_or_norm
from radflow.optim.factory import build_optimizer
from radflow.optim.lamb import LAMB
from radflow.optim.lars import LARS
from radflow.optim.muon import Muon
from radflow.training.loss import build_loss
from radflow.training.loss_config import LossConfig
from radflow.training.step import TrainingStep

CONFIGS = {
    "adam": OptimizerConfig(optimizer="adam"),
    "adamw": OptimizerConfig(optimizer="adamw", weight_decay=0.3),
    "adadelta": OptimizerConfig(optimizer="adadelta"),
    "sgd": OptimizerConfig(optimizer="sgd", momentum=0.7),
    "nesterov": OptimizerConfig(optimizer="nesterov", momentum=0.7),
    "lars": OptimizerConfig(optimizer="lars", momentum=0.7, weight_decay=0.3),
    "lamb": OptimizerConfig(optimizer="lamb", weight_decay=0.3),
    "muon": OptimizerConfig(optimizer="muon", momentum=0.7, weight_decay=0.3),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_six_steps_on_kernels_and_a_bias_are_those_of_the_paper(name):
    generator = np.random.default_rng(7)
    start = [generator.normal(size=shape) for shape in ((5, 3), (3, 3, 2, 4), (4,))]
    gradients = [[generator.normal(size=value.shape) * 10.0 ** -(step % 3) for value in start] for step in range(6)]
    rates = [0.02, 0.05, 0.1, 0.1, 0.04, 0.01]
    # Adadelta and LARS move by thousandths of a rate; they get larger ones, so that the numbers tell.
    if name in ("adadelta", "lars"):
        rates = [10 * rate for rate in rates]
    weights = variables_of(start)
    got = take_steps(build_optimizer(CONFIGS[name], weights), weights, gradients, rates)
    for place, (value, first) in enumerate(zip(got, start, strict=True)):
        expected = REFERENCES[name](first, [of_step[place] for of_step in gradients], rates)
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=3e-6)
        assert np.abs(expected - first).max() > 1e-3


def test_two_steps_of_lars_by_hand():
    """|w| = 5 and |g| = 1 give the ratio 0.1 * 5 / (1 + 0.2 * 5) = 1/4, then |w| = 4 gives 0.1 * 4 / 1.8 = 2/9."""
    weights = variables_of([np.array([[3.0, 4.0]])])
    optimizer = LARS(0.0, momentum=0.5, weight_decay=0.2, trust_coefficient=0.1)
    gradient = [np.array([[0.6, 0.8]])]
    (once,) = take_steps(optimizer, weights, [gradient], [2.0])
    np.testing.assert_allclose(once, [[2.4, 3.2]], rtol=1e-6)
    (twice,) = take_steps(optimizer, weights, [gradient], [1.0])
    np.testing.assert_allclose(twice, [[1.86, 2.48]], rtol=1e-6)


def test_epsilon_of_lars_stands_beside_the_gradient_norm():
    """0.1 * 5 / (1 + 4) = 0.1."""
    optimizer = LARS(0.0, momentum=0.0, trust_coefficient=0.1, epsilon=4.0)
    (after,) = take_steps(optimizer, variables_of([np.array([[3.0, 4.0]])]), [[np.array([[0.6, 0.8]])]], [1.0])
    np.testing.assert_allclose(after, [[2.94, 3.92]], rtol=1e-6)


def test_a_step_of_lamb_by_hand():
    """Signs (1, -1) plus half of (6, 8) are (4, 3): norm 5 against 10, so the update is twice that."""
    weights = variables_of([np.array([[6.0, 8.0]])])
    (after,) = take_steps(LAMB(0.0, weight_decay=0.5), weights, [[np.array([[2.0, -30.0]])]], [0.1])
    np.testing.assert_allclose(after, [[5.2, 7.4]], rtol=2e-5)


def test_lamb_without_decay_is_keras_own_on_kernels():
    generator = np.random.default_rng(3)
    start = [generator.normal(size=(4, 6)), generator.normal(size=(3, 3, 1, 2))]
    gradients = [[generator.normal(size=value.shape) for value in start] for _ in range(5)]
    rates = [0.1, 0.2, 0.05, 0.01, 0.3]
    ours = take_steps(LAMB(0.0, epsilon=1e-7), variables_of(start), gradients, rates)
    theirs = take_steps(keras.optimizers.Lamb(0.0, epsilon=1e-7), variables_of(start), gradients, rates)
    for left, right in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-7)


def small_network() -> keras.Model:
    films = keras.Input((8, 8, 3))
    hidden = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(films))
    hidden = keras.layers.GroupNormalization(2)(keras.layers.DepthwiseConv2D(3)(hidden))
    hidden = keras.layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(films, keras.layers.Dense(2)(hidden))


def test_biases_gammas_and_betas_are_told_from_kernels():
    ranks = {(weight.name, is_bias_or_norm(weight)) for weight in small_network().trainable_variables}
    assert ranks == {("kernel", False), ("bias", True), ("gamma", True), ("beta", True)}


# Without a gradient only decay moves a kernel: by rate * decay of itself, and in LAMB, which gives every update
# the norm of its kernel, by the rate.
@pytest.mark.parametrize(("name", "kept"), [("adamw", 0.97), ("lars", 0.97), ("lamb", 0.9), ("muon", 0.97)])
def test_weight_decay_shrinks_kernels_and_leaves_biases(name, kept):
    weights = variables_of([np.full((3, 2), 2.0), np.full(2, 2.0)])
    kernel, bias = take_steps(
        build_optimizer(CONFIGS[name], weights), weights, [[np.zeros((3, 2)), np.zeros(2)]], [0.1]
    )
    np.testing.assert_allclose(kernel, np.full((3, 2), 2.0 * kept), rtol=1e-5)
    assert bias.tolist() == [2.0, 2.0]


@settings(max_examples=20)
@given(st.floats(1e-6, 1e6))
def test_an_update_of_lars_does_not_depend_on_the_scale_of_the_gradient(scale):
    generator = np.random.default_rng(0)
    start, gradient = generator.normal(size=(4, 3)), generator.normal(size=(4, 3))
    plain, scaled = (
        take_steps(LARS(0.0), variables_of([start]), [[factor * gradient]], [100.0])[0] for factor in (1.0, scale)
    )
    np.testing.assert_allclose(plain, scaled, rtol=1e-5)
    assert np.linalg.norm(plain - start) == pytest.approx(0.1 * np.linalg.norm(start), rel=1e-4)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("optimizer", [LARS, LAMB, Muon])
@pytest.mark.parametrize(("weight", "gradient"), [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1e-30, 1e-30), (1.0, 1e-30)])
def test_vanishing_weights_and_gradients_give_a_finite_update(optimizer, weight_decay, weight, gradient):
    weights = variables_of([np.full((2, 2), weight)])
    steps = [[np.full((2, 2), gradient)]] * 2
    (after,) = take_steps(optimizer(0.0, weight_decay=weight_decay), weights, steps, [0.5, 0.5])
    assert np.isfinite(after).all()
    if weight == gradient == 0:
        assert not after.any()
    if gradient == 1:  # a head that starts at zero, as the classifier's does, must be able to leave it
        assert (after < 0).all()


@pytest.mark.parametrize(
    ("optimizer", "given"),
    [
        (
            LARS(2.0, momentum=0.8, weight_decay=1e-4, trust_coefficient=0.02, epsilon=1e-9),
            {"learning_rate": 2.0, "momentum": 0.8, "weight_decay": 1e-4, "trust_coefficient": 0.02, "epsilon": 1e-9},
        ),
        (
            LAMB(0.5, beta_1=0.8, beta_2=0.95, epsilon=1e-5, weight_decay=0.1),
            {"learning_rate": 0.5, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-5, "weight_decay": 0.1},
        ),
        (
            Muon(0.5, momentum=0.8, weight_decay=0.1, exclude_layers=["logits/kernel"]),
            {"learning_rate": 0.5, "momentum": 0.8, "weight_decay": 0.1, "exclude_layers": ["logits/kernel"]},
        ),
    ],
)
def test_serialisation_keeps_every_setting(optimizer, given):
    assert {**optimizer.get_config(), **given} == optimizer.get_config()
    serialised = keras.saving.serialize_keras_object(optimizer)
    assert serialised["registered_name"] == f"radflow>{type(optimizer).__name__}"
    for again in (
        type(optimizer).from_config(optimizer.get_config()),
        keras.saving.deserialize_keras_object(serialised),
    ):
        assert type(again) is type(optimizer)
        assert again.get_config() == optimizer.get_config()


@pytest.mark.parametrize("name", CONFIGS)
def test_an_optimizer_with_restored_variables_goes_on_as_the_first(name):
    """What a checkpoint holds, the optimiser's variables in their order, is all there is."""
    generator = np.random.default_rng(1)
    start = [generator.normal(size=(3, 2)), generator.normal(size=2)]
    gradients = [[generator.normal(size=value.shape) for value in start] for _ in range(4)]
    unbroken = variables_of(start)
    first = build_optimizer(CONFIGS[name], unbroken)
    half = variables_of(take_steps(first, unbroken, gradients[:2], [0.1, 0.2]))
    restored = build_optimizer(CONFIGS[name], half)
    restored.build(half)
    for variable, saved in zip(restored.variables, first.variables, strict=True):
        variable.assign(saved.numpy())
    expected = take_steps(first, unbroken, gradients[2:], [0.3, 0.1])
    for left, right in zip(take_steps(restored, half, gradients[2:], [0.3, 0.1]), expected, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("adam", 0.1),
        ("adamw", 0.1),
        ("adadelta", 50),
        ("sgd", 0.5),
        ("nesterov", 0.5),
        ("lars", 5),
        ("lamb", 0.1),
        ("muon", 0.1),
    ],
)
def test_every_optimizer_learns_in_the_training_step(name, rate):
    generator = np.random.default_rng(5)
    films = generator.normal(size=(64, 8, 8, 3)).astype(np.float32)
    labels = (films.mean(axis=(1, 2))[:, :2] > 0).astype(np.float32)
    keras.utils.set_random_seed(0)
    model = small_network()
    optimizer = build_optimizer(CONFIGS[name], model.trainable_variables)
    step = TrainingStep(model, build_loss(LossConfig(), labels), optimizer, SerialCommunicator())
    losses = []
    for _ in range(30):
        step.accumulate(Batch(films, labels, np.ones(64, np.float32)))
        losses.append(step.reduce(64))
        step.update(rate)
    assert losses[-1] < 0.9 * losses[0]


def test_an_unknown_optimizer_is_never_a_silent_adam():
    with pytest.raises(ValueError, match="lion"):
        build_optimizer(OptimizerConfig(optimizer="lion"), [])


@pytest.mark.parametrize(
    ("wrong", "fix"),
    [
        ({"optimizer": "lars", "momentum": 1.0}, "less than 1"),
        ({"optimizer": "sgd", "momentum": -0.1}, "at least 0"),
        ({"optimizer": "sgd", "momentum": math.nan}, "at least 0"),
        ({"optimizer": "lars", "weight_decay": -1e-4}, "at least 0"),
        ({"optimizer": "adamw", "weight_decay": 1.0}, "less than 1"),
        ({"optimizer": "adam", "weight_decay": 1e-4}, "optimizer=adamw or lars or lamb or muon"),
        ({"optimizer": "sgd", "weight_decay": 1e-4}, "optimizer=adamw or lars or lamb or muon"),
        ({"optimizer": "adam", "momentum": 0.5}, "optimizer=sgd or nesterov or lars or muon"),
        ({"optimizer": "nesterov", "momentum": 0.0}, "optimizer=sgd"),
    ],
)
def test_a_setting_out_of_range_or_without_effect_is_refused(wrong, fix):
    with pytest.raises(UserError, match=fix):
        OptimizerConfig(**wrong)
