"""Optimisers by the formulae of their papers, written out in NumPy with double precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

Arrays = list[np.ndarray]
Reference = Callable[[np.ndarray, Arrays, list[float]], np.ndarray]
"""Start value, gradient of each step, learning rate of each step -> value after the last step."""


def adam_moments(gradients: Arrays) -> Iterable[tuple[np.ndarray, np.ndarray, float]]:
    """Kingma & Ba 2015 (arXiv:1412.6980), algorithm 1: corrected mean, root of the corrected square, its correction."""
    first, second = 0.0, 0.0
    for step, gradient in enumerate(gradients, start=1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        yield first / (1 - 0.9**step), np.sqrt(second / (1 - 0.999**step)), math.sqrt(1 - 0.999**step)


def adamw(weight: np.ndarray, gradients: Arrays, rates: list[float], decay: float = 0.3) -> np.ndarray:
    """Loshchilov & Hutter 2019 (arXiv:1711.05101), algorithm 2; biases do not decay.

    Keras' epsilon is the "epsilon hat" of Kingma & Ba, section 2: it is added before the correction.
    """
    decay = decay if weight.ndim > 1 else 0.0
    for (mean, root, correction), rate in zip(adam_moments(gradients), rates, strict=True):
        weight = weight - rate * (mean / (root + 1e-7 / correction) + decay * weight)
    return weight


def adam(weight: np.ndarray, gradients: Arrays, rates: list[float]) -> np.ndarray:
    return adamw(weight, gradients, rates, decay=0.0)


def adadelta(weight: np.ndarray, gradients: Arrays, rates: list[float]) -> np.ndarray:
    """Zeiler 2012 (arXiv:1212.5701), algorithm 1, times a learning rate."""
    mean_gradient, mean_change = np.zeros_like(weight), np.zeros_like(weight)
    for gradient, rate in zip(gradients, rates, strict=True):
        mean_gradient = 0.95 * mean_gradient + 0.05 * gradient**2
        change = -np.sqrt(mean_change + 1e-7) / np.sqrt(mean_gradient + 1e-7) * gradient
        mean_change = 0.95 * mean_change + 0.05 * change**2
        weight = weight + rate * change
    return weight


def sgd(weight: np.ndarray, gradients: Arrays, rates: list[float]) -> np.ndarray:
    """Sutskever et al. 2013, equations 1 and 2."""
    velocity = np.zeros_like(weight)
    for gradient, rate in zip(gradients, rates, strict=True):
        velocity = 0.7 * velocity - rate * gradient
        weight = weight + velocity
    return weight


def nesterov(weight: np.ndarray, gradients: Arrays, rates: list[float]) -> np.ndarray:
    """Sutskever et al. 2013, equations 3 and 4, where gradients are taken at weight + momentum * velocity.

    That look-ahead point is what frameworks store as the weight.
    """
    velocity = np.zeros_like(weight)
    for gradient, rate in zip(gradients, rates, strict=True):
        velocity = 0.7 * velocity - rate * gradient
        weight = weight + velocity
    return weight + 0.7 * velocity


def lars(weight: np.ndarray, gradients: Arrays, rates: list[float]) -> np.ndarray:
    """You et al. 2017 (arXiv:1708.03888), algorithm 1, with eta 0.001; biases take plain SGD with momentum."""
    if weight.ndim == 1:
        return sgd(weight, gradients, rates)
    velocity = np.zeros_like(weight)
    for gradient, rate in zip(gradients, rates, strict=True):
        weight_norm, gradient_norm = math.sqrt((weight**2).sum()), math.sqrt((gradient**2).sum())
        local_rate = 0.001 * weight_norm / (gradient_norm + 0.3 * weight_norm)
        velocity = 0.7 * velocity + rate * local_rate * (gradient + 0.3 * weight)
        weight = weight - velocity
    return weight


def lamb(weight: np.ndarray, gradients: Arrays, rates: list[float]) -> np.ndarray:
    """You et al. 2020 (arXiv:1904.00962), algorithm 2; biases take plain Adam, as in the authors' code."""
    for (mean, root, _), rate in zip(adam_moments(gradients), rates, strict=True):
        direction = mean / (root + 1e-6)
        if weight.ndim > 1:
            direction = direction + 0.3 * weight
            direction = direction * math.sqrt((weight**2).sum() / (direction**2).sum())
        weight = weight - rate * direction
    return weight


def muon(weight: np.ndarray, gradients: Arrays, rates: list[float]) -> np.ndarray:
    """Jordan et al. 2024, at the scale of Liu et al. 2025 (arXiv:2502.16982), equation 4; biases take plain Adam."""
    if weight.ndim == 1:
        return adam(weight, gradients, rates)
    momentum = np.zeros_like(weight)
    for gradient, rate in zip(gradients, rates, strict=True):
        momentum = 0.7 * momentum + gradient
        matrix = (gradient + 0.7 * momentum).reshape(-1, weight.shape[-1])
        update = newton_schulz(matrix) * 0.2 * math.sqrt(max(matrix.shape))
        weight = weight - rate * (update.reshape(weight.shape) + 0.3 * weight)
    return weight


def newton_schulz(matrix: np.ndarray) -> np.ndarray:
    """The authors' iteration on the singular values, which leaves the singular vectors as they are."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / math.sqrt((values**2).sum())
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left @ np.diag(values) @ right


REFERENCES: dict[str, Reference] = {
    "adam": adam, "adamw": adamw, "adadelta": adadelta, "sgd": sgd, "nesterov": nesterov, "lars": lars, "lamb": lamb,
    "muon": muon,
}  # fmt: skip
