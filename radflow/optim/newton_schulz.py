"""Newton-Schulz iterations, which make matrices orthogonal by products of matrices alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

_TINY = 1e-30
"""Keeps a matrix of zeros as it is."""


@dataclass(frozen=True)
class NewtonSchulz:
    """X = (a I + b A + c A^2) X with A = X X^T, a number of times from X with a norm of 1.

    Where matrices are long and computed in float32, A is iterated on instead, which is small, and X is multiplied once
    by the product of the factors: Gram Newton-Schulz (Zhang et al. 2026,
    https://dao-lab.ai/blog/2026/gram-newton-schulz). Rounding of A grows with every step as directions of small
    singular values do: shorter formats have too few digits.
    """

    coefficients: tuple[float, float, float]
    """a, b and c."""
    steps: int
    dtype: str = "float32"
    """What it computes in."""

    def __call__(self, stacks: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """U V^T of each matrix U S V^T in stacks [n, rows, columns], with singular values between .7 and 1.2."""
        results = [tf.cast(_scaled(stack), self.dtype) for stack in stacks]
        of_side: dict[int, list[int]] = {}
        for place, matrices in enumerate(results):
            if self._has_small_grams(matrices):
                of_side.setdefault(min(matrices.shape[-2:]), []).append(place)
            else:
                results[place] = self._iterate(matrices)
        for places in of_side.values():
            # Grams of one size together: a graph of fewer operations is built sooner.
            factors = self._iterate_grams(tf.concat([_gram(results[place]) for place in places], 0))
            shares = tf.split(factors, [results[place].shape[0] for place in places])
            for place, factor in zip(places, shares, strict=True):
                results[place] = _times(results[place], factor)
        return [tf.cast(matrices, stack.dtype) for matrices, stack in zip(results, stacks, strict=True)]

    def _has_small_grams(self, matrices: tf.Tensor) -> bool:
        """Whether A is smaller than X, and products keep all digits: on GPUs, TensorFlow rounds to TensorFloat-32."""
        short, long = sorted(matrices.shape[-2:])
        return long >= 2 * short and self.dtype == "float32" and not tf.config.list_physical_devices("GPU")

    def _iterate(self, matrices: tf.Tensor) -> tf.Tensor:
        for _ in range(self.steps):
            matrices = _times(matrices, self._factor(_gram(matrices)))
        return matrices

    def _iterate_grams(self, gram: tf.Tensor) -> tf.Tensor:
        """The product of the factors of all steps."""
        product = factor = self._factor(gram)
        for _ in range(self.steps - 1):
            gram = tf.matmul(factor, tf.matmul(gram, factor))
            factor = self._factor(gram)
            product = tf.matmul(product, factor)
        return product

    def _factor(self, gram: tf.Tensor) -> tf.Tensor:
        """The polynomial a I + b A + c A^2, where sums of matrices are smallest."""
        a, b, c = self.coefficients
        return tf.cast(a * tf.eye(gram.shape[-1]), gram.dtype) + b * gram + c * tf.matmul(gram, gram)


def _scaled(matrices: tf.Tensor) -> tf.Tensor:
    """Matrices with a norm of 1; by the largest element first, since the squares of small ones vanish."""
    matrices /= tf.reduce_max(tf.abs(matrices), axis=(-2, -1), keepdims=True) + _TINY
    return matrices / (tf.norm(matrices, axis=(-2, -1), keepdims=True) + _TINY)


def _gram(matrices: tf.Tensor) -> tf.Tensor:
    """X^T X of tall matrices, X X^T of others."""
    is_tall = _is_tall(matrices)
    return tf.matmul(matrices, matrices, transpose_a=is_tall, transpose_b=not is_tall)


def _times(matrices: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Matrices times a factor as large as their Gram matrices, on the side where it fits."""
    return tf.matmul(matrices, factor) if _is_tall(matrices) else tf.matmul(factor, matrices)


def _is_tall(matrices: tf.Tensor) -> bool:
    return matrices.shape[-2] > matrices.shape[-1]
