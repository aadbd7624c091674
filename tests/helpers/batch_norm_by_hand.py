"""Batch normalisation and its gradients by their formulas, in float64."""

from __future__ import annotations

import numpy as np

EPSILON = 1e-3


def by_hand(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, upstream: np.ndarray) -> dict[str, np.ndarray]:
    """Ioffe & Szegedy 2015 (arXiv:1502.03167), section 3, in float64: outputs, statistics and all gradients."""
    axes, values = (0, 1, 2), x.size // x.shape[-1]
    mean, variance = x.mean(axes), x.var(axes)
    normalized = (x - mean) / np.sqrt(variance + EPSILON)
    d_gamma, d_beta = (upstream * normalized).sum(axes), upstream.sum(axes)
    d_x = gamma / np.sqrt(variance + EPSILON) * (upstream - d_beta / values - normalized * d_gamma / values)
    return {
        "y": normalized * gamma + beta,
        "mean": mean,
        "variance": variance,
        "x": d_x,
        "gamma": d_gamma,
        "beta": d_beta,
    }
