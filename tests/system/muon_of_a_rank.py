"""A program for mpirun: updates of Muon by ranks whose CPUs compute differently; every rank writes its weights.

python muon_of_a_rank.py OUT MATRIX_DTYPE...
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from radflow.cluster.launchers.started_ranks import rank_number
from radflow.cluster.threads import set_threads

rank = rank_number()
if rank % 2:
    os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_BF16" if "bfloat16" in sys.argv else "SSE41"
set_threads(1 + rank)

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from radflow.cluster.communicator import HorovodCommunicator  # noqa: E402
from radflow.optim.muon import Muon  # noqa: E402

SHAPES = [(3, 3, 64, 96), (96,), (512, 256), (1, 1, 256, 128), (7, 7, 3, 64), (256, 14)]


def update(communicator: HorovodCommunicator | None, matrix_dtype: str) -> list[np.ndarray]:
    """Weights after three steps whose gradients are the same on every rank."""
    generator = np.random.default_rng(0)
    weights = [
        keras.Variable(generator.normal(size=shape), dtype="float32", name=f"kernel{len(shape)}") for shape in SHAPES
    ]
    optimizer = Muon(0.1, matrix_dtype=matrix_dtype, ranks=communicator)
    optimizer.build(weights)

    @tf.function
    def apply(gradients: list[tf.Tensor]) -> None:
        optimizer.apply(gradients, weights)

    for _ in range(3):
        apply([tf.constant(generator.normal(size=shape), tf.float32) for shape in SHAPES])
    return [weight.numpy() for weight in weights]


if __name__ == "__main__":
    together = HorovodCommunicator()
    for dtype in sys.argv[2:]:
        for name, ranks in (("shared", together), ("alone", None)):
            np.savez(Path(sys.argv[1]) / f"{name}-{dtype}-{together.rank}.npz", *update(ranks, dtype))
