"""Threads of this machine, and how TensorFlow is told of them."""

from __future__ import annotations

import os

from radflow.cpu import available_cores
from radflow.errors import UserError


def choose_threads(threads: int, cores: int, ranks_on_node: int) -> int:
    """Threads of one rank: what the user gave, or an equal share of the node's cores."""
    if threads < 0:
        raise UserError(f"threads={threads} must be 0 (an equal share of the cores) or a positive number")
    return threads or max(1, cores // ranks_on_node)


def set_threads(threads: int, ranks_on_node: int = 1) -> None:
    """Make this process compute with `threads` threads, or its share of the cores; before TensorFlow is imported.

    What the environment has already stays where `threads` does not say otherwise: a launcher that has set it knows how
    many ranks share the node's cores.
    """
    chosen = thread_environment(choose_threads(threads, available_cores(), ranks_on_node))
    os.environ.update(chosen if threads else {**chosen, **os.environ})


def thread_environment(threads: int) -> dict[str, str]:
    """Environment of a process that computes with `threads` threads (paper, section III-A.2).

    It must be set before TensorFlow is imported.
    """
    return {
        "OMP_NUM_THREADS": str(threads),
        "KMP_AFFINITY": "granularity=fine,compact,1,0",
        "KMP_BLOCKTIME": "1",
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": "1" if threads == 1 else "2",
        # TensorFlow computes by oneDNN of itself only where the CPU has AVX512-VNNI or better, although AVX2 gains too.
        "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1"),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
