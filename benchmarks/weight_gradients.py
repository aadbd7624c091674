"""Weight gradients of a network's convolutions: by oneDNN, by matrix products and by radflow's own operations.

    python -m benchmarks.weight_gradients --arch=vgg16 --threads=1

A row is a shape of layer; `taken` says which of them training takes here. In the sums our own operation stands in for
Winograd's products where these do not apply.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from radflow.cluster.threads import set_threads
from radflow.plots.tables import terminal_table
from radflow.terminal import import_tensorflow, print_table

if TYPE_CHECKING:
    from radflow.models.weight_gradient import WeightGradient

WINOGRAD = "Winograd"


def main() -> None:
    given = read_options()
    set_threads(given.threads)
    import_tensorflow()
    import keras

    from radflow.models.backbone_builder import build_backbone
    from radflow.models.convolution import gradient_by_tensorflow
    from radflow.models.weight_gradient import (
        faster_weight_gradient,
        gradient_by_own_operation,
        gradient_by_products,
        gradient_by_winograd,
        is_plain,
    )

    ways: dict[str, WeightGradient] = {
        "oneDNN": gradient_by_tensorflow,
        "products": gradient_by_products,
        "own": gradient_by_own_operation,
        WINOGRAD: gradient_by_winograd,
    }
    names = {way: name for name, way in ways.items()}

    def shape_of(layer: keras.layers.Conv2D) -> tuple[int, int, int, int, str]:
        taken = names[faster_weight_gradient(layer) or gradient_by_tensorflow]
        return layer.output.shape[1], layer.kernel_size[0], *layer.kernel.shape[2:], taken

    keras.config.set_dtype_policy(given.precision)
    layers = build_backbone(given.arch, "auto", "none", given.image_size).layers
    shapes = Counter(shape_of(layer) for layer in layers if isinstance(layer, keras.layers.Conv2D) and is_plain(layer))
    table = terminal_table(given.arch, ("map", "kernel", "channels", "filters", "layers", *ways, "taken"), ())
    spent = dict.fromkeys([*ways, "taken"], 0.0)
    for (side, size, channels, filters, taken), count in sorted(shapes.items(), reverse=True):
        seconds = measure(ways, (side, size, channels, filters), given)
        operations = 2 * given.batch * side**2 * size**2 * channels * filters / 1e9
        for way in spent:
            spent[way] += count * seconds.get(taken if way == "taken" else way, seconds["own"])
        speeds = [f"{operations / seconds[way]:.0f}" if way in seconds else "" for way in ways]
        table.add_row(*map(str, (side, size, channels, filters, count)), *speeds, taken)
    print_table(table)
    print("GFLOP/s; seconds of all layers:", ", ".join(f"{name} {seconds:.3f}" for name, seconds in spent.items()))


def read_options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--arch", default="densenet121")
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--image_size", type=int, default=224)
    options.add_argument("--precision", default="float32", choices=("float32", "mixed_bfloat16"))
    options.add_argument("--threads", type=int, default=0)
    options.add_argument("--rounds", type=int, default=5)
    return options.parse_args()


def measure(
    ways: dict[str, WeightGradient], layer: tuple[int, int, int, int], given: argparse.Namespace
) -> dict[str, float]:
    """Seconds of each way that a layer has, by the side of its maps and of its kernel, its channels and its filters."""
    import keras
    import tensorflow as tf

    from radflow.native.winograd import fits_winograd

    side, size, channels, filters = layer
    number, shape = keras.config.dtype_policy().compute_dtype, (given.batch, side, side)
    inputs, upstream = (tf.cast(tf.random.normal((*shape, maps)), number) for maps in (channels, filters))
    fits = fits_winograd(tf.zeros((size, size, channels, filters), number))
    calls = {
        name: partial(tf.function(way, jit_compile=False), inputs, upstream, size)
        for name, way in ways.items()
        if fits or name != WINOGRAD
    }
    return fastest(calls, given.rounds)


def fastest(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of the fastest call of each, called in turn after one call that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return {name: min(taken[1:]) for name, taken in seconds.items()}


if __name__ == "__main__":
    main()
