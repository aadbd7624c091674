"""Moving statistics that belong to the weights at hand, whatever training left behind."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from radflow.cluster.batch_plan import BatchPlan
from radflow.cluster.communicator import SerialCommunicator
from radflow.training.batch_statistics import BatchStatistics

SIZE, FILMS = 8, 20


class Films:
    """A split of random films in memory."""

    pixels = np.random.default_rng(0).integers(0, 256, (FILMS, SIZE, SIZE), np.uint8)
    labels = np.zeros((FILMS, 1), bool)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        return self.pixels[indices]


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    films = keras.Input((SIZE, SIZE), dtype="uint8")
    hidden = keras.layers.Rescaling(1.0)(keras.layers.Reshape((SIZE, SIZE, 1))(films))
    hidden = keras.layers.Conv2D(4, 3, name="conv")(hidden)
    hidden = keras.layers.BatchNormalization(momentum=0.9, name="norm")(hidden)
    return keras.Model(films, keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(hidden)))


def whole_set() -> BatchPlan:
    return BatchPlan(global_batch=FILMS, ranks=1, local_batch=FILMS, micro_steps=1, films=FILMS)


def test_the_statistics_are_those_of_the_films_under_the_present_weights(model: keras.Model) -> None:
    norm = model.get_layer("norm")
    norm.moving_mean.assign(np.full(4, 1e6))
    norm.moving_variance.assign(np.full(4, 1e-6))
    order = np.random.default_rng(1).permutation(FILMS)
    BatchStatistics(model, whole_set(), SerialCommunicator()).estimate(Films(), order)
    kernel, bias = (np.asarray(weight, np.float64) for weight in model.get_layer("conv").weights)
    windows = np.lib.stride_tricks.sliding_window_view(Films.pixels.astype(np.float64), (3, 3), axis=(1, 2))
    activations = np.einsum("nhwij,ijc->nhwc", windows, kernel[:, :, 0]) + bias
    np.testing.assert_allclose(norm.moving_mean, activations.mean(axis=(0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, activations.var(axis=(0, 1, 2)), rtol=1e-3)


def test_a_model_whose_weights_have_moved_far_predicts_what_training_saw(model: keras.Model) -> None:
    order = np.arange(FILMS)
    statistics = BatchStatistics(model, whole_set(), SerialCommunicator())
    statistics.estimate(Films(), order)
    kernel, bias = model.get_layer("conv").get_weights()
    model.get_layer("conv").set_weights([-30 * kernel, bias + 100])
    in_training = np.asarray(model(Films.pixels, training=True))
    assert not np.allclose(model(Films.pixels, training=False), in_training, rtol=0.1)
    statistics.estimate(Films(), order)
    np.testing.assert_allclose(model(Films.pixels, training=False), in_training, rtol=1e-2, atol=1e-3)


def test_micro_batches_smaller_than_the_set_estimate_the_same_mean(model: keras.Model) -> None:
    """Five micro-batches of four films, gone through several times: late ones weigh more, so about the same."""
    norm = model.get_layer("norm")
    plan = BatchPlan(global_batch=FILMS, ranks=1, local_batch=4, micro_steps=5, films=FILMS)
    estimates = []
    for each in (whole_set(), plan):
        BatchStatistics(model, each, SerialCommunicator()).estimate(Films(), np.arange(FILMS))
        estimates.append(np.asarray(norm.moving_mean))
    deviation = np.sqrt(np.asarray(norm.moving_variance))
    assert (np.abs(estimates[1] - estimates[0]) < 0.1 * deviation).all()
