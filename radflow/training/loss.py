"""What a film costs: binary cross-entropy of each finding, plain, weighted, focal or asymmetric."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from radflow.training.loss_config import LossConfig

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Function of targets and logits, float32 [n, findings]: the loss of each film, float32 [n]."""


def build_loss(config: LossConfig, labels: np.ndarray) -> Loss:
    """The loss of a configuration; `labels` [films, findings] are the targets of training and give the weights.

    For a finding with logit x, probability p = sigmoid(x) and label y it is

        - weight * y * (1 - p)^gamma_positive * log(p) - (1 - y) * q^gamma_negative * log(1 - q)

    with q = max(p - margin, 0), averaged over findings: the asymmetric loss of Ben-Baruch et al. 2021
    (arXiv:2009.14119). Without margin and with one gamma it is the focal loss of Lin et al. 2017 (arXiv:1708.02002,
    equation 4), with gamma 0 cross-entropy. Smoothing replaces y by y * (1 - s) + s / 2. A target that is NaN costs
    nothing: its finding counts as 0 in the average, so that every other label weighs the same in every film.
    """
    gamma_positive, gamma_negative, margin = config.exponents_and_margin
    weights = tf.constant(positive_weights(config, labels), tf.float32)
    has_gaps = bool(np.isnan(labels).any())

    def film_losses(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        is_taught = ~tf.math.is_nan(labels)
        if has_gaps:
            labels = tf.where(is_taught, labels, 0.0)
        targets = labels * (1 - config.label_smoothing) + config.label_smoothing / 2
        positive = weights * _focused(tf.nn.softplus(-logits), -tf.nn.softplus(logits), gamma_positive)
        negative = (
            _shifted(logits, gamma_negative, margin)
            if margin
            else _focused(tf.nn.softplus(logits), -tf.nn.softplus(-logits), gamma_negative)
        )
        losses = targets * positive + (1 - targets) * negative
        return tf.reduce_mean(tf.where(is_taught, losses, 0.0) if has_gaps else losses, axis=-1)

    return film_losses


def positive_weights(config: LossConfig, labels: np.ndarray) -> np.ndarray:
    """Weight of each finding's positive films, float64 [findings].

    Balanced is negatives / positives, so that both have the same weight in sum, kept between 1 / cap and cap.
    """
    if config.pos_weight == "none":
        return np.ones(labels.shape[1])
    positives = np.nansum(labels, axis=0)
    ratio = ((~np.isnan(labels)).sum(axis=0) - positives) / np.maximum(positives, 1)
    return np.clip(ratio, 1 / config.pos_weight_cap, config.pos_weight_cap)


def _focused(cross_entropy: tf.Tensor, log_error: tf.Tensor, gamma: float) -> tf.Tensor:
    """Cross-entropy times the gamma-th power of the error, given as a logarithm: no logit overflows."""
    return tf.exp(gamma * log_error) * cross_entropy if gamma else cross_entropy


def _shifted(logits: tf.Tensor, gamma: float, margin: float) -> tf.Tensor:
    """Loss of negatives whose probability is lowered by the margin; nothing below it."""
    shifted = tf.sigmoid(logits) - margin
    counts = shifted > 0
    # A power of zero has no gradient for gamma < 1, and `where` would pass its NaN on: so it never sees one.
    probability = tf.where(counts, shifted, 0.5)
    cross_entropy = -tf.math.log(tf.sigmoid(-logits) + margin)
    return tf.where(counts, probability**gamma * cross_entropy, 0.0)
