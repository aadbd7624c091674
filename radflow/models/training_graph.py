"""What is trained in place of the model that is saved: the same variables, computed as training wants them.

The model that is saved keeps Keras' own layers, so that it loads without radflow and without Horovod.
"""

from __future__ import annotations

from functools import partial

import keras

from radflow.models.batch_norm import AllreduceSum, FusedBatchNormalization, SynchronizedBatchNormalization
from radflow.models.convolution import ProductGradientConvolution, products_are_faster
from radflow.models.dense_block import DenseBlocks, computes_dense_blocks


def training_graph(model: keras.Model, allreduce_sum: AllreduceSum) -> keras.Model:
    """A model that shares all variables with `model`, with layers that compute the same faster or over all ranks.

    Batch normalisations marked `synchronized` take the statistics of all ranks, by `allreduce_sum`; others are fused.
    Convolutions compute the gradient of their weights as it is fastest here, and the blocks of a DenseNet by native
    operations where these are built.
    """

    def twin_of(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, keras.Model):
            plain = partial(training_graph, layer, allreduce_sum)
            return DenseBlocks(layer, plain) if computes_dense_blocks(layer) else plain()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.synchronized:
            return SynchronizedBatchNormalization(layer, allreduce_sum)
        if isinstance(layer, keras.layers.BatchNormalization):
            return FusedBatchNormalization(layer)
        if isinstance(layer, keras.layers.Conv2D) and products_are_faster(layer):
            return ProductGradientConvolution(layer)
        return layer

    return keras.models.clone_model(model, clone_function=twin_of)
