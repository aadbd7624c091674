"""Weight gradients of a network's convolutions: oneDNN's own against matrix products, layer by layer.

    python -m benchmarks.weight_gradients --arch=vgg16 --threads=1

A row is a shape of layer that products can compute; `taken` says which of the two training takes here.
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
    from radflow.models.convolution import can_take_products, products_are_faster, weight_gradient

    @tf.function(jit_compile=False)
    def by_products(inputs: tf.Tensor, upstream: tf.Tensor, size: int) -> tf.Tensor:
        return weight_gradient(inputs, upstream, size)

    @tf.function(jit_compile=False)
    def by_onednn(inputs: tf.Tensor, upstream: tf.Tensor, size: int) -> tf.Tensor:
        shape = (size, size, inputs.shape[-1], upstream.shape[-1])
        return tf.raw_ops.Conv2DBackpropFilter(
            input=inputs, filter_sizes=shape, out_backprop=upstream, strides=[1, 1, 1, 1], padding="SAME"
        )

    def shape_of(layer: keras.layers.Conv2D) -> tuple[int, int, int, int, bool]:
        return layer.output.shape[1], layer.kernel_size[0], *layer.kernel.shape[2:], products_are_faster(layer)

    keras.config.set_dtype_policy(given.precision)
    layers = build_backbone(given.arch, "auto", "none", given.image_size).layers
    shapes = Counter(
        shape_of(layer) for layer in layers if isinstance(layer, keras.layers.Conv2D) and can_take_products(layer)
    )
    headings = ("map", "kernel", "channels", "filters", "layers", "oneDNN", "products", "ratio", "taken")
    table = terminal_table(given.arch, headings, ())
    spent = {"oneDNN": 0.0, "products": 0.0, "taken": 0.0}
    for (side, size, channels, filters, taken), count in sorted(shapes.items(), reverse=True):
        number = keras.config.dtype_policy().compute_dtype
        inputs = tf.cast(tf.random.normal((given.batch, side, side, channels)), number)
        upstream = tf.cast(tf.random.normal((given.batch, side, side, filters)), number)
        calls = [partial(method, inputs, upstream, size) for method in (by_onednn, by_products)]
        onednn, products = fastest(calls, given.rounds)
        operations = 2 * given.batch * side**2 * size**2 * channels * filters / 1e9
        for method, seconds in (("oneDNN", onednn), ("products", products), ("taken", products if taken else onednn)):
            spent[method] += count * seconds
        speeds = (f"{operations / onednn:.0f}", f"{operations / products:.0f}", f"{onednn / products:.2f}")
        table.add_row(*map(str, (side, size, channels, filters, count)), *speeds, "products" if taken else "oneDNN")
    print_table(table)
    print("GFLOP/s; seconds of all layers:", ", ".join(f"{name} {seconds:.2f}" for name, seconds in spent.items()))


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
