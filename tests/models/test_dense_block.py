"""A DenseNet by the native operations: the values, gradients and statistics of Keras' own in float64."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.applications.densenet import DenseNet
from native_operations import native, without_native  # noqa: F401 - fixtures
from number_formats import needs_bfloat16

from radflow.models.backbone_builder import build_backbone
from radflow.models.dense_block import DenseBlocks
from radflow.models.precision import dtype_policy
from radflow.models.twin import twin_of

SIZE, FEATURES = 64, 136
FILMS = np.random.default_rng(0).normal(size=(4, SIZE, SIZE, 3)).astype(np.float32)
UPSTREAM = np.random.default_rng(1).normal(size=(4, SIZE // 32, SIZE // 32, FEATURES)).astype(np.float32)


def body(precision: str = "float32") -> keras.Model:
    """A short DenseNet whose normalisations are not at their initial values.

    In a long one some ReLU is at the edge, and rounding decides whether a gradient passes.
    """
    keras.utils.set_random_seed(0)
    with dtype_policy(precision):
        model = DenseNet([2, 1, 3, 2], False, None, input_shape=(SIZE, SIZE, 3))
    generator = np.random.default_rng(2)
    for weight in model.trainable_variables:
        if "gamma" in weight.path or "beta" in weight.path:
            weight.assign(weight + generator.normal(0, 0.1, weight.shape))
    return model


def twin(model: keras.Model) -> keras.Model:
    films = keras.Input(FILMS.shape[1:])
    return twin_of(keras.Model(films, model(films)))


def in_training(model: keras.Model, weights: list[tf.Tensor], films: tf.Tensor) -> list[np.ndarray]:
    """Outputs, and gradients of the weights."""

    @tf.function(autograph=False)
    def compute() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            outputs = model(films, training=True)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float64) * UPSTREAM)
        return [outputs, *tape.gradient(loss, weights)]

    return [np.asarray(value, np.float64) for value in compute()]


@pytest.fixture(scope="module")
def exact() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Outputs and gradients of Keras in float64, and the moving statistics after them."""
    keras.backend.set_floatx("float64")
    try:
        model = keras.models.clone_model(
            body(), clone_function=lambda layer: type(layer).from_config({**layer.get_config(), "dtype": "float64"})
        )
        model.set_weights(body().get_weights())
        values = in_training(model, [v.value for v in model.trainable_variables], tf.constant(FILMS, tf.float64))
    finally:
        keras.backend.set_floatx("float32")
        keras.config.set_dtype_policy("float32")  # which `body` has set to what floatx was
    return values, [np.asarray(variable) for variable in model.non_trainable_variables]


def errors(values: list[np.ndarray], exact: list[np.ndarray]) -> np.ndarray:
    """Norm of each difference, relative to that of what is right."""
    return np.array([np.linalg.norm(v - e) / np.linalg.norm(e) for v, e in zip(values, exact, strict=True)])


@pytest.mark.parametrize("precision", ["float32", pytest.param("mixed_bfloat16", marks=needs_bfloat16)])
@pytest.mark.usefixtures("native")
def test_it_is_as_exact_as_tensorflows_own_operations(precision, exact, request) -> None:
    model = body(precision)
    weights, films = [v.value for v in model.trainable_variables], tf.constant(FILMS)
    fast = twin(model)
    assert type(fast.layers[-1]) is DenseBlocks
    got = errors(in_training(fast, weights, films), exact[0])
    statistics = errors([np.asarray(v, np.float64) for v in model.non_trainable_variables], exact[1])
    request.getfixturevalue("without_native")
    plain = twin(model)
    assert type(plain.layers[-1]) is not DenseBlocks
    theirs = errors(in_training(plain, weights, films), exact[0])
    assert got[0] < 1.2 * theirs[0]
    assert np.median(got) < 1.2 * np.median(theirs)
    if precision == "float32":
        assert np.median(got) < 1e-5
        assert statistics.max() < 1e-5


@pytest.mark.usefixtures("native")
def test_it_shares_all_variables_in_their_order_and_predicts_by_moving_statistics() -> None:
    model = body()
    fast = twin(model)
    assert list(map(id, fast.trainable_variables)) == list(map(id, model.trainable_variables))
    assert set(map(id, fast.variables)) == set(map(id, model.variables))
    np.testing.assert_allclose(fast(FILMS, training=False), model(FILMS, training=False), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("cause", ["group", "sync_batch", "frozen"])
def test_what_it_does_not_compute_stays_as_it_is(cause: str) -> None:
    model = build_backbone("densenet121", "batch" if cause == "frozen" else cause, "none", SIZE)
    model.trainable = cause != "frozen"
    assert type(twin(model).layers[-1]) is not DenseBlocks
