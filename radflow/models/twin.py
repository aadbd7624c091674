"""What is computed in place of the model that is saved: the same variables, by faster operations.

The model that is saved keeps Keras' own layers, so that it loads without radflow and without Horovod.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from radflow.models.batch_norm import AllreduceSum, FusedBatchNormalization, SynchronizedBatchNormalization
from radflow.models.convolution import FastConvolution
from radflow.models.dense_block import DenseBlocks
from radflow.models.native_body import NativeBody
from radflow.models.plain_blocks import PlainBlocks
from radflow.models.residual_block import ResidualBlocks
from radflow.models.weight_gradient import faster_weight_gradient
from radflow.native.library import operations

_NATIVE_BODIES: dict[str, type[NativeBody]] = {
    "densenet": DenseBlocks,
    "resnet50": ResidualBlocks,
    "vgg": PlainBlocks,
}
"""Native implementations, by how the name of the body begins."""


def twin_of(model: keras.Model, allreduce_sum: AllreduceSum = list) -> keras.Model:
    """A model that shares all variables with `model`, with layers that compute the same faster or over all ranks.

    Batch normalisations marked `synchronized` take the statistics of all ranks, by `allreduce_sum`; others are fused.
    Convolutions are computed as it is fastest here, and DenseNets, ResNets and VGGs by native operations where these
    are built.
    """

    def faster(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, keras.Model):
            native = _native_body(layer)
            return native(layer) if native else twin_of(layer, allreduce_sum)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.synchronized:
            return SynchronizedBatchNormalization(layer, allreduce_sum)
        if isinstance(layer, keras.layers.BatchNormalization):
            return FusedBatchNormalization(layer)
        if isinstance(layer, keras.layers.Conv2D) and (weight_gradient := faster_weight_gradient(layer)):
            return FastConvolution(layer, weight_gradient)
        return layer

    return keras.models.clone_model(model, clone_function=faster)


def _native_body(model: keras.Model) -> type[NativeBody] | None:
    """What computes a body by native operations; None where nothing does."""
    if tf.config.list_physical_devices("GPU") or operations() is None:
        return None
    found = (native for start, native in _NATIVE_BODIES.items() if model.name.startswith(start) and native.takes(model))
    return next(found, None)
