"""Whether training computes what it should: radflow's steps beside those of plain Keras layers in float64.

    python -m benchmarks.reference_training --arch=densenet121 --steps=50

trains from the same weights on the same random films by SGD with momentum, whose updates are sums of gradients and
nothing else: with Keras' layers in float64 (but for the head, which is float32 always), which is held to be right; with
the same layers in float32 and, where the CPU has it, bfloat16; and as radflow trains, with all that it computes faster,
in these formats. Losses then differ from the first by what rounding makes of so many steps; radflow's should do so no
more than Keras'.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from radflow.cluster.threads import set_threads
from radflow.models.backbones import ARCHITECTURES
from radflow.models.precision import supports_bfloat16
from radflow.plots.tables import markdown_table
from radflow.terminal import import_tensorflow

set_threads(0)
import_tensorflow()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from radflow.cluster.communicator import SerialCommunicator  # noqa: E402
from radflow.data.batches import Batch  # noqa: E402
from radflow.models.classifier import build_classifier, build_logits_model  # noqa: E402
from radflow.models.config import ModelConfig  # noqa: E402
from radflow.training.loss import build_loss  # noqa: E402
from radflow.training.loss_config import LossConfig  # noqa: E402
from radflow.training.step import TrainingStep  # noqa: E402

FINDINGS = 14
RATE = 0.01
TOLD = (1, 2, 5, 10, 20, 50, 100)
Losses = np.ndarray
Weights = list[np.ndarray]


def main() -> None:
    options = read_options()
    exact, exact_weights = train(options, "float64", by_keras)
    rows = [row("Keras", "float64", exact, exact, 0.0)]
    for precision in ["float32", *(["mixed_bfloat16"] if supports_bfloat16() else [])]:
        for name, way in (("Keras", by_keras), ("radflow", by_radflow)):
            losses, weights = train(options, precision, way)
            rows.append(row(name, precision, losses, exact, distance(weights, exact_weights)))
    headings = ["", "", *(f"loss {step}" for step in TOLD if step <= options.steps), "largest error", "weights"]
    print(f"{options.arch}, {options.image_size} px, batches of {options.batch}, {options.steps} steps\n")
    print(markdown_table(headings, rows, align="ll" + "r" * (len(headings) - 2)))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=ARCHITECTURES, default="densenet121")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--image_size", type=int, default=64)
    return parser.parse_args()


def train(
    options: argparse.Namespace, precision: str, way: Callable[[keras.Model], Callable[[Batch], float]]
) -> tuple[Losses, Weights]:
    """The loss of each step, and the weights after the last."""
    generator = np.random.default_rng(0)
    model = new_model(options, precision)
    model.set_weights(new_model(options, "float32").get_weights())  # in float64 others would be drawn
    head = model.get_layer("logits").kernel
    head.assign(generator.normal(0, 0.05, head.shape))  # zero, it would let no gradient reach the body
    step = way(model)
    losses = []
    for _ in range(options.steps):
        films = generator.integers(0, 256, (options.batch, options.image_size, options.image_size), np.uint8)
        labels = (films.mean((1, 2), keepdims=True)[:, 0] > 127.5) ^ (generator.random((options.batch, FINDINGS)) < 0.1)
        losses.append(step(Batch(films, labels.astype(np.float32), np.ones(options.batch, np.float32))))
    return np.array(losses), [np.asarray(weight, np.float64) for weight in model.trainable_variables]


def new_model(options: argparse.Namespace, precision: str) -> keras.Model:
    config = ModelConfig(arch=options.arch)
    return build_classifier(config, precision, options.image_size, np.full(FINDINGS, 0.1), seed=0)


def by_radflow(model: keras.Model) -> Callable[[Batch], float]:
    loss = build_loss(LossConfig(), np.zeros((1, FINDINGS), bool))
    optimizer = keras.optimizers.SGD(RATE, momentum=0.9)
    optimizer.build(model.trainable_variables)
    steps = TrainingStep(build_logits_model(model), loss, optimizer, SerialCommunicator())

    def step(batch: Batch) -> float:
        steps.accumulate(batch)
        value = steps.reduce(len(batch.films))
        steps.update(RATE)
        return value

    return step


def by_keras(model: keras.Model) -> Callable[[Batch], float]:
    """The definition: mean binary cross-entropy, its gradient, and momentum, on the layers as they are saved."""
    logits_model = keras.Model(model.input, model.get_layer("logits").output)
    variables = [variable.value for variable in model.trainable_variables]
    velocities = [np.zeros(variable.shape) for variable in variables]

    @tf.function(autograph=False)
    def compute(films: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            logits = logits_model(films, training=True)
            labels = tf.cast(labels, logits.dtype)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
        return loss, tape.gradient(loss, variables)

    def step(batch: Batch) -> float:
        loss, gradients = compute(tf.constant(batch.films), tf.constant(batch.labels))
        for variable, velocity, gradient in zip(variables, velocities, gradients, strict=True):
            velocity *= 0.9
            velocity -= RATE * gradient.numpy()
            variable.assign_add(tf.cast(velocity, variable.dtype))
        return float(loss)

    return step


def distance(weights: Weights, exact: Weights) -> float:
    """Norm of the difference of all weights, relative to the norm of what is right."""
    difference = np.sqrt(sum(np.sum((got - right) ** 2) for got, right in zip(weights, exact, strict=True)))
    return float(difference / np.sqrt(sum(np.sum(right**2) for right in exact)))


def row(name: str, precision: str, losses: Losses, exact: Losses, weights: float) -> list[str]:
    told = [f"{losses[step - 1]:.5f}" for step in TOLD if step <= len(losses)]
    return [name, precision, *told, f"{np.abs(losses / exact - 1).max():.1e}", f"{weights:.1e}"]


if __name__ == "__main__":
    main()
