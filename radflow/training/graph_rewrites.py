"""Which of TensorFlow's rewrites of graphs a training waits for before its first step."""

from __future__ import annotations

import keras
import tensorflow as tf

from radflow.models.dense_block import DenseBlocks

_SLOW = (
    "arithmetic_optimization",
    "constant_folding",
    "dependency_optimization",
    "function_optimization",
    "implementation_selector",
    "layout_optimizer",
    "loop_optimization",
    "pin_to_host_optimization",
    "scoped_allocator_optimization",
    "shape_optimization",
)


def limit_graph_rewrites(logits: keras.Model) -> None:
    """Leave out, on CPUs, rewrites of this process' graphs that take longer than they save.

    Fusing operations ("remapping") made steps of ResNet and VGG 2 to 8 % faster as Keras' layers compute them. All
    others together made none faster, and take half a second of the first step. What computes dense blocks has nothing
    to fuse.
    """
    if tf.config.list_physical_devices("GPU"):
        return
    has_dense_blocks = any(isinstance(layer, DenseBlocks) for layer in logits.layers)
    options = {"remapping": True, "disable_meta_optimizer": has_dense_blocks}
    tf.config.optimizer.set_experimental_options({**dict.fromkeys(_SLOW, False), **options})
