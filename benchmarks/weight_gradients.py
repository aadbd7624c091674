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

from radflow.cluster.threads import set_threads
from radflow.plots.tables import terminal_table
from radflow.terminal import import_tensorflow, print_table


def main() -> None:
    given = read_options()
    set_threads(given.threads)
    import_tensorflow()
    import keras
    import tensorflow as tf

    from radflow.models.backbone_builder import build_backbone
    from radflow.models.convolution import gradient_by_tensorflow
    from radflow.models.weight_gradient import (
        WeightGradient,
        faster_weight_gradient,
        gradient_by_own_operation,
        gradient_by_products,
        gradient_by_winograd,
        is_plain,
    )
    from radflow.native.winograd import fits_winograd

    ways: dict[str, WeightGradient] = {
        "oneDNN": gradient_by_tensorflow,
        "products": gradient_by_products,
        "own": gradient_by_own_operation,
        "Winograd": gradient_by_winograd,
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
        number = keras.config.dtype_policy().compute_dtype
        inputs = tf.cast(tf.random.normal((given.batch, side, side, channels)), number)
        upstream = tf.cast(tf.random.normal((given.batch, side, side, filters)), number)
        fits = fits_winograd(tf.zeros((size, size, channels, filters), number))
        here = {name: way for name, way in ways.items() if fits or way is not gradient_by_winograd}
        graphs = [tf.function(way, jit_compile=False) for way in here.values()]
        seconds = dict(
            zip(here, fastest([partial(g, inputs, upstream, size) for g in graphs], given.rounds), strict=True)
        )
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


def fastest(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    """Seconds of the fastest call of each, called in turn after one call that does not count."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for call, taken in zip(calls, seconds, strict=True):
            started = time.perf_counter()
            call()
            taken.append(time.perf_counter() - started)
    return [min(taken[1:]) for taken in seconds]


if __name__ == "__main__":
    main()
