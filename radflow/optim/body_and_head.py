"""Another rate, and a later start, for the body of a classifier than for its new head."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf


class BodyAndHead:
    """Two optimisers of one rule, with the interface that training uses of one.

    What a rate is to each rule, its share is too: scaling gradients would not move Adam's steps at all. A body that
    stays out of the first calls of `apply` starts later with moments and a step count of its own, as if training had
    begun then. Update rules work on each variable by itself, so with `body_lr_factor` 1 the two are the same as one.
    """

    def __init__(
        self,
        body: keras.optimizers.Optimizer,
        head: keras.optimizers.Optimizer,
        head_weights: Sequence[keras.Variable],
        body_lr_factor: float,
    ) -> None:
        """Move `head_weights` by `head`, and all others by `body` at `body_lr_factor` times its learning rate."""
        self._body = body
        self._head = head
        self._of_head = {id(weight) for weight in head_weights}
        self._body_lr = body_lr_factor

    def build(self, weights: Sequence[keras.Variable]) -> None:
        """Make the variables of both optimisers; a second call does nothing."""
        self._body.build([weight for weight in weights if id(weight) not in self._of_head])
        self._head.build([weight for weight in weights if id(weight) in self._of_head])

    @property
    def variables(self) -> list[keras.Variable]:
        """Variables of both, the head's first."""
        return [*self._head.variables, *self._body.variables]

    @property
    def iterations(self) -> keras.Variable:
        """Steps of the head, which takes part in all of them."""
        return self._head.iterations

    @property
    def learning_rate(self) -> keras.Variable:
        """Learning rate of the head."""
        return self._head.learning_rate

    def apply(self, gradients: Sequence[tf.Tensor], weights: Sequence[keras.Variable]) -> None:
        """Move these weights, those of the head alone while the body is frozen."""
        self._body.learning_rate.assign(self._head.learning_rate * self._body_lr)
        pairs = list(zip(gradients, weights, strict=True))
        for optimizer, is_head in ((self._body, False), (self._head, True)):
            own = [(gradient, weight) for gradient, weight in pairs if (id(weight) in self._of_head) == is_head]
            optimizer.apply([gradient for gradient, _ in own], [weight for _, weight in own])
