"""What the bodies that native operations compute have in common."""

from __future__ import annotations

from collections.abc import Sequence

import keras


class NativeBody(keras.layers.Layer):
    """A network of keras.applications without its top, as native operations compute it."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__(name=model.name, dtype="float32", autocast=False)  # so that Keras casts no variables
        self.model = model  # a tracked attribute: its variables are those of this layer, in its order
        self.built = True

    @classmethod
    def takes(cls, model: keras.Model) -> bool:
        """Whether all normalisations of a network are of the kind that the operations know.

        That is batch normalisation by the films of one rank, which is trained.
        """
        norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        is_usual = all(norm.trainable and not norm.synchronized for norm in norms)
        return is_usual and len({norm.momentum for norm in norms}) == 1

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """As of the model."""
        return self.model.compute_output_shape(input_shape)
