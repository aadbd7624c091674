"""Losses against their formulas in float64, written out, and gradients against differences of them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from radflow.errors import UserError
from radflow.training.loss import build_loss, positive_weights
from radflow.training.loss_config import LossConfig

FILMS, FINDINGS = 5, 3
TRAINING_LABELS = np.array(
    [[1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], bool
)
CONFIGS = [
    LossConfig(),
    LossConfig(label_smoothing=0.1),
    LossConfig(pos_weight="balanced", pos_weight_cap=5.0),
    LossConfig(loss="focal"),
    LossConfig(loss="focal", focal_gamma=0.5, pos_weight="balanced"),
    LossConfig(loss="asymmetric"),
    LossConfig(loss="asymmetric", asymmetric_gamma=0.5, asymmetric_margin=0.2, label_smoothing=0.05),
    LossConfig(loss="asymmetric", asymmetric_margin=0.0),
]


def by_hand(config: LossConfig, labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return of_labels(config, labels, logits).mean(axis=1)


def of_labels(config: LossConfig, labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """As the papers print it, in float64: probabilities first, one case after the other."""
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    y = labels * (1 - config.label_smoothing) + 0.5 * config.label_smoothing
    w = positive_weights(config, TRAINING_LABELS)
    positive, negative = -np.log(p), -np.log(1 - p)
    if config.loss == "focal":
        positive, negative = (1 - p) ** config.focal_gamma * positive, p**config.focal_gamma * negative
    if config.loss == "asymmetric":
        shifted = np.maximum(p - config.asymmetric_margin, 0)
        negative = -(shifted**config.asymmetric_gamma) * np.log(1 - shifted)
    return y * w * positive + (1 - y) * negative


logits_of_films = arrays.arrays(np.float64, (FILMS, FINDINGS), elements=st.floats(-12, 12))
labels_of_films = arrays.arrays(np.float64, (FILMS, FINDINGS), elements=st.sampled_from([0.0, 1.0]))


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@settings(max_examples=30)
@given(logits=logits_of_films, labels=labels_of_films)
def test_losses_are_the_formulas(config, logits, labels):
    loss = build_loss(config, TRAINING_LABELS)
    got = loss(tf.constant(labels, tf.float32), tf.constant(logits, tf.float32))
    np.testing.assert_allclose(got, by_hand(config, labels, logits), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_gradients_are_the_slopes_of_the_formulas(config):
    generator = np.random.default_rng(0)
    logits, labels = (
        generator.normal(0, 3, (FILMS, FINDINGS)),
        (generator.random((FILMS, FINDINGS)) < 0.4).astype(float),
    )
    given = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(given)
        total = tf.reduce_sum(build_loss(config, TRAINING_LABELS)(tf.constant(labels, tf.float32), given))
    slopes, width = np.empty_like(logits), 1e-6
    for place in np.ndindex(logits.shape):
        shift = np.zeros_like(logits)
        shift[place] = width
        ends = (by_hand(config, labels, logits + shift).sum(), by_hand(config, labels, logits - shift).sum())
        slopes[place] = (ends[0] - ends[1]) / (2 * width)
    np.testing.assert_allclose(tape.gradient(total, given), slopes, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("logit", [-1e4, -100.0, 0.0, 100.0, 1e4])
def test_no_logit_is_too_large(config, logit):
    """Loss and gradient of the surest predictions, right or wrong, are numbers."""
    given = tf.constant([[logit, logit, logit]])
    with tf.GradientTape() as tape:
        tape.watch(given)
        loss = build_loss(config, TRAINING_LABELS)(tf.constant([[0.0, 1.0, 0.0]]), given)
    assert np.isfinite(loss).all()
    assert np.isfinite(tape.gradient(loss, given)).all()


def test_the_default_is_keras_binary_cross_entropy():
    logits = np.array([[30.0, -30.0, 0.5], [0.0, 100.0, -1.0]], np.float32)
    labels = np.array([[1, 0, 1], [0, 0, 1]], np.float32)
    expected = keras.losses.binary_crossentropy(labels, logits, from_logits=True)
    np.testing.assert_allclose(build_loss(LossConfig(), TRAINING_LABELS)(labels, logits), expected, rtol=1e-6)


def test_the_focal_loss_is_that_of_keras():
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 3, (FILMS, FINDINGS)).astype(np.float32)
    labels = (generator.random((FILMS, FINDINGS)) < 0.4).astype(np.float32)
    expected = keras.losses.binary_focal_crossentropy(labels, logits, gamma=2.0, from_logits=True)
    got = build_loss(LossConfig(loss="focal"), TRAINING_LABELS)(labels, logits)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_balanced_weights_give_both_classes_the_same_sum_up_to_the_cap():
    """Two, none and one positive among eight films."""
    weights = positive_weights(LossConfig(pos_weight="balanced", pos_weight_cap=6.0), TRAINING_LABELS)
    np.testing.assert_array_equal(weights, [3.0, 6.0, 6.0])
    always = np.ones((8, 1), bool)
    np.testing.assert_allclose(positive_weights(LossConfig(pos_weight="balanced"), always), [1 / 20])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"focal_gamma": 1.0}, "focal_gamma=1.0 has no effect with loss=bce; give loss=focal"),
        ({"asymmetric_margin": 0.1, "loss": "focal"}, "asymmetric_margin=0.1 has no effect with loss=focal"),
        ({"pos_weight_cap": 3.0}, "give pos_weight=balanced"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"loss": "focal", "focal_gamma": -1.0}, "focal_gamma=-1.0"),
        ({"loss": "focal", "focal_gamma": float("nan")}, "focal_gamma=nan"),
    ],
)
def test_settings_without_effect_or_out_of_range_are_one_line(settings, named):
    with pytest.raises(UserError, match=named):
        LossConfig(**settings)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_what_teaches_nothing_costs_nothing_and_moves_nothing(config):
    """The loss of a film is that of its other labels over the number of all; the gradient of a gap is zero."""
    generator = np.random.default_rng(6)
    logits = tf.constant(generator.normal(size=(FILMS, FINDINGS)), tf.float32)
    labels = (generator.random((FILMS, FINDINGS)) < 0.4).astype(np.float32)
    gaps = generator.random((FILMS, FINDINGS)) < 0.4
    loss = build_loss(config, np.vstack([TRAINING_LABELS, np.full((1, FINDINGS), np.nan)]))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = loss(tf.constant(np.where(gaps, np.nan, labels), tf.float32), logits)
    expected = np.where(gaps, 0, of_labels(config, labels, logits.numpy())).mean(axis=1)
    np.testing.assert_allclose(losses, expected, rtol=2e-5, atol=1e-6)
    gradient = tape.gradient(losses, logits).numpy()
    assert (gradient[gaps] == 0).all()
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[~gaps]).max() > 0


def test_balanced_weights_count_known_labels_alone():
    """One positive and three negatives of the first finding; two and two of the second."""
    targets = np.array([[1, 1], [0, np.nan], [0, 0], [np.nan, 1], [0, 0], [np.nan, np.nan]])
    assert positive_weights(LossConfig(pos_weight="balanced"), targets) == pytest.approx([3, 1])
