"""What ranks measure together: sums of several sizes, and the steps of each network in parts and as a whole."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from radflow.cluster.communicator import Communicator, allgather_json
from radflow.cluster.reports import this_host
from radflow.data.batches import Batch
from radflow.models.classifier import build_classifier, build_logits_model
from radflow.models.config import ModelConfig
from radflow.models.precision import choose_precision
from radflow.optim.config import OptimizerConfig, OptimizerName
from radflow.optim.factory import build_optimizer
from radflow.scaling.config import ScaleConfig, StepConfig
from radflow.scaling.measured import MeasuredNetwork, MeasuredStep, MeasuredSum, Measurement
from radflow.training.gradient_sum import SumGradients, sum_as_float16, sum_as_float32
from radflow.training.loss import build_loss
from radflow.training.loss_config import LossConfig
from radflow.training.step import TrainingStep

FINDINGS = 14
FLOAT32 = 4
"""Bytes."""
SUMS = (2**12, 2**18, 2**20, 2**22, 2**24, 2**26)
"""Bytes of the sums that are measured."""
REPETITIONS, SECONDS = 5, 1.0
"""What is measured is done so often at least, and for so long."""
STEP_SECONDS = 16.0
"""Steps are measured for longer: predictions are held against them."""
SHORT_STEP_SECONDS = 5.0
"""Enough to tell which of several ways is the fastest."""
WARM_UP = 2
CACHE_BYTES = 2**28
"""More than any cache holds."""
LEARNING_RATE = 1e-4

Look = Callable[[], None]
"""Called by what is measured when a part of it is done."""


def measure(config: ScaleConfig, communicator: Communicator) -> Measurement:
    """Measure all that `config` asks for; to be called by all ranks."""
    hosts = allgather_json(communicator, this_host())
    sums = [MeasuredSum(size, measure_sum(communicator, size)) for size in SUMS]
    networks = {arch: measure_network(arch, config, communicator) for arch in config.networks}
    return Measurement(tuple(hosts), tuple(sums), networks)


def measure_sum(communicator: Communicator, size: int, sum_gradients: SumGradients = sum_as_float32) -> float:
    """Seconds in which gradients of so many bytes become their means over ranks, as in a step."""
    sums = tf.Variable(tf.zeros(size // FLOAT32))

    @tf.function(autograph=False, jit_compile=False)
    def average(films: tf.Tensor) -> None:
        sums.assign(sum_gradients(communicator, tf.convert_to_tensor(sums)) / films)

    films = tf.constant(communicator.size, tf.float32)
    other = np.zeros(CACHE_BYTES, np.uint8)
    # In a step, gradients have long left the caches when they are summed.
    return _median_seconds(lambda: average(films), communicator, before=lambda: np.add(other, 1, out=other))


def measure_network(arch: str, config: ScaleConfig, communicator: Communicator) -> MeasuredNetwork:
    """Seconds of the steps of a network with random films, in parts and as a whole."""
    step, size = _build_step(ModelConfig(arch=arch), "auto", "adam", config.image_size, communicator)
    batches = [_random_batch(films, config.image_size) for films in config.local_batches]
    return MeasuredNetwork(
        gradient_bytes=size,
        summing_as_float16=measure_sum(communicator, size, sum_as_float16),
        steps=tuple(_measure_step(step, batch, communicator, STEP_SECONDS) for batch in batches),
    )


def measure_training_step(config: StepConfig, communicator: Communicator) -> MeasuredStep:
    """Seconds of a step of these ranks, in parts and as a whole; to be called by all ranks."""
    model = ModelConfig(arch=config.arch, norm=config.norm)
    step, _ = _build_step(model, config.precision, config.optimizer, config.image_size, communicator)
    return _measure_step(step, _random_batch(config.lbz, config.image_size), communicator, SHORT_STEP_SECONDS)


def _build_step(
    model: ModelConfig, precision: str, optimizer: OptimizerName, image_size: int, communicator: Communicator
) -> tuple[TrainingStep, int]:
    """A step of a network, and the bytes of its gradients."""
    classifier = build_classifier(model, choose_precision(precision), image_size, np.full(FINDINGS, 0.1), seed=0)
    rule = build_optimizer(OptimizerConfig(optimizer=optimizer), classifier.trainable_variables)
    logits = build_logits_model(classifier, communicator.allreduce_sum)
    loss = build_loss(LossConfig(), np.zeros((1, FINDINGS), bool))
    size = FLOAT32 * sum(math.prod(weight.shape) for weight in classifier.trainable_variables)
    return TrainingStep(logits, loss, rule, communicator), size


def _random_batch(films: int, image_size: int) -> Batch:
    pixels = np.random.default_rng(0).integers(0, 256, (films, image_size, image_size), np.uint8)
    return Batch(pixels, np.zeros((films, FINDINGS), np.float32), np.ones(films, np.float32))


def _measure_step(step: TrainingStep, batch: Batch, communicator: Communicator, seconds: float) -> MeasuredStep:
    """Take whole steps, with a look at the clock between the parts and without, in turn.

    A part that is repeated by itself would find in the caches what it does not in a step.
    """
    films = len(batch.films)

    def take(look: Look) -> None:
        step.accumulate(batch)
        look()
        step.reduce(communicator.size * films)
        look()
        step.update(LEARNING_RATE)

    for _ in range(WARM_UP):
        take(lambda: None)
    turns: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    while len(turns) < REPETITIONS or sum(parts.sum() + whole.sum() for parts, whole in turns) < seconds:
        turns.append((_lap(take, communicator), _lap(lambda _: take(lambda: None), communicator)))
    computing, _, updating = np.median([parts for parts, _ in turns], axis=0)
    # Ranks wait for each other between the two parts: a whole step is no shorter than both, whatever else the machine
    # did meanwhile.
    whole = max(float(np.median([whole for _, whole in turns])), float(computing + updating))
    return MeasuredStep(films, float(computing), float(updating), whole)


def _median_seconds(
    work: Callable[[], object], communicator: Communicator, before: Callable[[], object] = lambda: None
) -> float:
    """Median seconds until the slowest rank has done `work`, which all of them begin together, after `before`."""
    for _ in range(WARM_UP):
        work()
    seconds: list[float] = []
    while len(seconds) < REPETITIONS or sum(seconds) < SECONDS:
        before()
        seconds.extend(_lap(lambda _: work(), communicator))
    return float(np.median(seconds))


def _lap(work: Callable[[Look], object], communicator: Communicator) -> NDArray[np.float64]:
    """Seconds [parts] of `work` from one look at the clock to the next, of the rank that is slowest then.

    All ranks begin together.
    """
    communicator.allgather(np.zeros(1))
    moments = [time.perf_counter()]
    work(lambda: moments.append(time.perf_counter()))
    moments.append(time.perf_counter())
    return communicator.allgather(np.diff(moments)[np.newaxis]).max(axis=0)
