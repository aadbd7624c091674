"""Seconds that an optimiser takes to move the weights of each network's body: the first time, and later.

    python -m benchmarks.updates --optimizers adam muon --threads=1

Muon multiplies matrices in the number format that `precision=auto` takes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from radflow.cluster.threads import set_threads
from radflow.models.backbones import ARCHITECTURES
from radflow.models.precision import choose_precision
from radflow.optim.config import OptimizerConfig
from radflow.plots.tables import markdown_table
from radflow.terminal import import_tensorflow

REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizers", nargs="+", default=["adam", "muon"])
    parser.add_argument("--arch", nargs="+", choices=ARCHITECTURES, default=tuple(ARCHITECTURES))
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    options = parser.parse_args()
    set_threads(options.threads)
    import_tensorflow()
    rows = [(arch, *(seconds(arch, name) for name in options.optimizers)) for arch in options.arch]
    print(markdown_table(["network", *options.optimizers], rows, align="l" + "r" * len(options.optimizers)))


def seconds(arch: str, optimizer: str) -> str:
    """Seconds of the first update, which builds the graph, and the median of later ones."""
    update = update_of(arch, optimizer)
    first, *later = (duration(update) for _ in range(1 + REPEATS))
    return f"{first:.1f}, {statistics.median(later):.3f}"


def duration(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def update_of(arch: str, optimizer: str) -> Callable[[], None]:
    """A function that moves the weights of a network."""
    import tensorflow as tf

    from radflow.models.backbone_builder import build_backbone
    from radflow.optim.factory import build_optimizer

    weights = build_backbone(arch, ARCHITECTURES[arch].norm, "none", 64).trainable_variables
    rule = build_optimizer(OptimizerConfig(optimizer=optimizer), weights, precision=choose_precision("auto"))
    rule.build(weights)
    generator = np.random.default_rng(0)
    gradients = [tf.constant(generator.normal(size=weight.shape), tf.float32) for weight in weights]

    @tf.function(autograph=False)
    def update() -> None:
        rule.apply(gradients, weights)

    return update


if __name__ == "__main__":
    main()
