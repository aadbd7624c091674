"""The GPU of a rank, where there are any."""

from __future__ import annotations

import tensorflow as tf

from radflow.errors import UserError


def take_gpu(rank_on_node: int, ranks_on_node: int) -> None:
    """Let this process see the GPU that is its own, and take of its memory what it needs; without GPUs do nothing.

    To be called before anything computes. Raises UserError for more ranks than GPUs.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return
    if 1 < len(gpus) < ranks_on_node:
        raise UserError(f"{ranks_on_node} ranks on a machine with {len(gpus)} GPUs; start one rank a GPU")
    # A scheduler that binds ranks to GPUs shows each rank its own alone.
    gpu = gpus[rank_on_node] if len(gpus) > 1 else gpus[0]
    tf.config.set_visible_devices(gpu, "GPU")
    tf.config.experimental.set_memory_growth(gpu, True)
