"""One place where an optimiser's name becomes a Keras optimiser."""

from __future__ import annotations

import keras

MOMENTUM = 0.9


def build_optimizer(name: str) -> keras.optimizers.Optimizer:
    """A Keras optimiser whose learning rate the training loop sets before each step.

    Raises ValueError for a name that is not known; there is no default to fall back to.
    """
    # jit_compile must be off: XLA on CPU is slower and its update does not see Horovod's sums.
    match name:
        case "adam":
            return keras.optimizers.Adam(learning_rate=0.0)
        case "adadelta":
            return keras.optimizers.Adadelta(learning_rate=0.0)
        case "sgd":
            return keras.optimizers.SGD(learning_rate=0.0, momentum=MOMENTUM)
    raise ValueError(f"optimizer={name!r} is not known; expected adam, adadelta or sgd")
