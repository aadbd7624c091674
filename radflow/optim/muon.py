"""Muon for networks of convolutions; Keras' own orthogonalises kernels of two dimensions alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import keras
import tensorflow as tf

from radflow.optim.adam import AdamStep
from radflow.optim.exclusions import is_bias_or_norm
from radflow.optim.newton_schulz import NewtonSchulz


class Ranks(Protocol):
    """What is needed to know of other ranks, which compute other shares of the same update."""

    rank: int
    size: int

    def allreduce_sum(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """Element-wise sums over all ranks; callable inside a tf.function."""


@keras.saving.register_keras_serializable("radflow")
class Muon(keras.optimizers.Muon):
    """Momentum whose update of each kernel is made orthogonal; Adam for biases, normalisations and the head.

    Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon), at the scale of Liu et al. 2025 (arXiv:2502.16982,
    equation 4). For a kernel w as a matrix of a row an input and a column an output, with gradient g:

        m = momentum * m + g
        U S V^T = g + momentum * m
        w = w - learning_rate * (0.2 * sqrt(max(rows, columns)) * U V^T + weight_decay * w)

    A kernel of a convolution [height, width, channels, filters] is a matrix [height * width * channels, filters]. Five
    steps of a Newton-Schulz iteration give U V^T, with singular values between .7 and 1.2. All directions of a kernel
    then move alike, the rare ones too, and an element moves by 0.2 of the learning rate on average, as by Adam, so that
    the two share learning rates.

    Each of several ranks computes the directions U V^T of a share of the kernels, and they exchange them. So an update
    takes less time the more ranks there are, and all have the same bits, on whatever CPUs they are.

    Two things differ from `keras.optimizers.Muon`, of which the variables and the configuration are kept: it leaves
    kernels of convolutions to Adam, and shrinks biases and normalisations by weight decay.

    Parameters
    ----------
    learning_rate : float
    momentum : float
        In [0, 1), of kernels.
    weight_decay : float or None
        Decoupled penalty of kernels, positive.
    exclude_layers : list of str
        Paths of the kernels that Adam moves all the same: the head's.
    matrix_dtype : float32 or bfloat16
        What the iteration computes in; the authors take bfloat16, which is several times as fast where the CPU has it.
    ranks : Ranks or None
        Those that train together; None is one.
    **settings
        As in `keras.optimizers.Muon`.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        momentum: float = 0.95,
        weight_decay: float | None = None,
        exclude_layers: list[str] | None = None,
        adam_weight_decay: float | None = None,
        matrix_dtype: str = "float32",
        ranks: Ranks | None = None,
        name: str = "muon",
        **settings: Any,
    ) -> None:
        super().__init__(
            learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            exclude_layers=exclude_layers,
            adam_weight_decay=adam_weight_decay,
            name=name,
            **settings,
        )
        self.matrix_dtype = matrix_dtype
        self._ranks = ranks

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor, as JSON values."""
        return {**super().get_config(), "matrix_dtype": self.matrix_dtype}

    def apply(self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """Update the variables, those of the constructor unless given, by their gradients."""
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        self._adam_step = AdamStep(self, self.adam_beta_1, self.adam_beta_2)
        super().apply(self._with_directions(list(grads), variables), variables)

    def _with_directions(self, grads: list[tf.Tensor], variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
        """Gradients, but of kernels the directions in which they move, which each rank computes a share of."""
        kernels = [place for place, variable in enumerate(variables) if not self._should_use_adamw(variable)]
        shapes = {place: _matrix_shape(variables[place]) for place in kernels}
        ranks, rank = (self._ranks.size, self._ranks.rank) if self._ranks else (1, 0)
        owners = dict(zip(kernels, share_out(list(shapes.values()), ranks), strict=True))
        alike: dict[tuple[int, tuple[int, int]], list[int]] = {}
        for place in kernels:
            alike.setdefault((owners[place], shapes[place]), []).append(place)
        ahead = {
            key: self._ahead([variables[place] for place in places], [grads[place] for place in places])
            for key, places in alike.items()
        }
        own = [key for key in alike if key[0] == rank]
        directions = {key: tf.zeros_like(stack) for key, stack in ahead.items()}
        directions |= zip(own, self._directions([ahead[key] for key in own]), strict=True)
        for key, places in alike.items():
            for place, direction in zip(places, tf.unstack(directions[key]), strict=True):
                grads[place] = tf.reshape(direction, variables[place].shape)
        return self._exchange(self._ranks, grads, kernels) if self._ranks and kernels else grads

    def _ahead(self, variables: list[keras.Variable], grads: list[tf.Tensor]) -> tf.Tensor:
        """Momentum a step ahead, if no gradient came: [n, rows, columns] of kernels of one shape."""
        shape = _matrix_shape(variables[0])
        momenta = [self.momentums[self._get_variable_index(variable)].value for variable in variables]
        gradients = tf.stack([tf.reshape(gradient, shape) for gradient in grads])
        moved = self.momentum * tf.stack([tf.reshape(momentum, shape) for momentum in momenta]) + gradients
        for momentum, value in zip(momenta, tf.unstack(moved), strict=True):
            momentum.assign(tf.reshape(value, momentum.shape), read_value=False)
        return gradients + self.momentum * moved

    def _directions(self, ahead: list[tf.Tensor]) -> list[tf.Tensor]:
        """Where kernels move, stacks [n, rows, columns] of a shape each, with a root mean square of `rms_rate`."""
        orthogonal = NewtonSchulz((self.muon_a, self.muon_b, self.muon_c), self.ns_steps, self.matrix_dtype)
        return [self.rms_rate * math.sqrt(max(stack.shape[-2:])) * stack for stack in orthogonal(ahead)]

    @staticmethod
    def _exchange(ranks: Ranks, grads: list[tf.Tensor], kernels: list[int]) -> list[tf.Tensor]:
        """Put directions that other ranks have computed in the place of zeros."""
        flat = tf.concat([tf.reshape(grads[place], [-1]) for place in kernels], 0)
        # Ranks tell tensors by their names, which differ between their graphs.
        (total,) = ranks.allreduce_sum([tf.identity(flat, name="directions")])
        parts = tf.split(total, [math.prod(grads[place].shape) for place in kernels])
        for place, part in zip(kernels, parts, strict=True):
            grads[place] = tf.reshape(part, grads[place].shape)
        return grads

    def _muon_update_step(self, gradient: tf.Tensor, variable: tf.Variable, lr: tf.Tensor, m: Any) -> None:  # noqa: ARG002
        """Move a kernel; `gradient` is its direction."""
        variable.assign_sub(lr * gradient, read_value=False)

    def _adamw_update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, lr: tf.Tensor, m: keras.Variable, v: keras.Variable
    ) -> None:
        """Move a bias, a normalisation or a kernel of the head by Adam."""
        self._adam_step.move(variable, m, v, gradient, lr)

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        return is_bias_or_norm(variable) or variable.path in self.exclude_layers


def share_out(matrices: Sequence[tuple[int, int]], ranks: int) -> list[int]:
    """The rank that computes the direction of each matrix [rows, columns], so that none has much more to do.

    Largest first, each to the rank with the least so far; the same on every rank.
    """
    work = [min(rows, columns) * rows * columns for rows, columns in matrices]
    loads, owners = [0] * ranks, [0] * len(matrices)
    for place in sorted(range(len(matrices)), key=lambda place: -work[place]):
        owners[place] = loads.index(min(loads))
        loads[owners[place]] += work[place]
    return owners


def _matrix_shape(kernel: tf.Tensor) -> tuple[int, int]:
    return math.prod(kernel.shape[:-1]), kernel.shape[-1]
