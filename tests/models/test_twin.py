"""The twin that computes: the variables and the mathematics of the model that is saved."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from native_operations import native, without_native  # noqa: F401 - fixtures
from number_formats import needs_bfloat16

from radflow.models import weight_gradient
from radflow.models.backbone_builder import build_backbone
from radflow.models.batch_norm import FusedBatchNormalization, SynchronizedBatchNormalization
from radflow.models.convolution import FastConvolution
from radflow.models.precision import supports_bfloat16
from radflow.models.twin import twin_of
from radflow.models.weight_gradient import WeightGradient, gradient_by_own_operation, gradient_by_products

GENERATOR = np.random.default_rng(0)


@pytest.fixture
def avx2(monkeypatch: pytest.MonkeyPatch):
    """A CPU with AVX2 and without AVX-512, whose convolutions are oneDNN's."""
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setattr(weight_gradient, "instruction_sets", lambda: frozenset({"avx", "avx2"}))


@pytest.fixture
def amx(monkeypatch: pytest.MonkeyPatch):
    """A CPU that multiplies bfloat16 by AMX."""
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setattr(weight_gradient, "instruction_sets", lambda: frozenset({"avx2", "avx512f", "amx_bf16"}))


@pytest.fixture
def avx512(monkeypatch: pytest.MonkeyPatch):
    """A CPU that multiplies bfloat16 by AVX-512."""
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setattr(weight_gradient, "instruction_sets", lambda: frozenset({"avx2", "avx512f", "avx512_bf16"}))


def nested(dtype: str = "float32", **settings: bool) -> keras.Model:
    """A body inside a model, as a classifier has it."""
    inputs = keras.Input((4, 4, 2))
    hidden = keras.layers.Conv2D(3, 1, name="conv", dtype=dtype)(inputs)
    hidden = keras.layers.BatchNormalization(name="norm", dtype=dtype, **settings)(hidden)
    body = keras.Model(inputs, keras.layers.ReLU(dtype=dtype)(hidden), name="body")
    films = keras.Input((4, 4, 2))
    return keras.Model(films, keras.layers.Dense(2, name="logits")(keras.layers.GlobalAveragePooling2D()(body(films))))


@pytest.mark.parametrize(
    ("dtype", "synchronized", "kind"),
    [
        pytest.param("mixed_bfloat16", False, FusedBatchNormalization, marks=needs_bfloat16),
        ("float32", False, FusedBatchNormalization),
        ("float32", True, SynchronizedBatchNormalization),
    ],
)
def test_what_trains_shares_its_weights_with_what_is_saved(dtype, synchronized, kind, tmp_path):
    model, films = nested(dtype, synchronized=synchronized), GENERATOR.normal(size=(5, 4, 4, 2)).astype(np.float32)
    twin = twin_of(model)
    assert type(twin.get_layer("body").get_layer("norm")) is kind
    assert [id(weight) for weight in twin.trainable_variables] == [id(weight) for weight in model.trainable_variables]
    assert {id(weight) for weight in twin.variables} == {id(weight) for weight in model.variables}
    expected = keras.models.clone_model(model)
    expected.set_weights(model.get_weights())
    tolerance = 2**-6 if dtype == "mixed_bfloat16" else 1e-5
    np.testing.assert_allclose(twin(films, training=True), expected(films, training=True), rtol=0, atol=tolerance)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    saved = again.get_layer("body").get_layer("norm")
    assert type(saved) is keras.layers.BatchNormalization
    assert np.any(np.asarray(saved.moving_mean) != 0)
    np.testing.assert_array_equal(again(films), model(films))


def of_kind(model: keras.Model, kind: type) -> set[str]:
    return {layer.name for layer in model._flatten_layers() if isinstance(layer, kind)}


@pytest.mark.usefixtures("without_native")
def test_large_maps_and_many_channels_have_their_weight_gradients_by_products(avx2):
    twin = twin_of(build_backbone("vgg16", "none", "none", 224))
    assert of_kind(twin, keras.layers.Conv2D) - of_kind(twin, FastConvolution) == {"block1_conv1"}
    twin = twin_of(build_backbone("resnet50", "batch", "none", 224))
    products = of_kind(twin, FastConvolution)
    assert {"conv2_block1_2_conv", "conv3_block4_1_conv", "conv5_block3_2_conv"} <= products
    not_its_kind = {"conv1_conv", "conv3_block1_1_conv"}  # 7x7; stride 2
    assert not products & (not_its_kind | {"conv4_block2_2_conv"})  # 14 px and 256 channels


@pytest.mark.parametrize(
    ("side", "channels", "size", "taken"), [(56, 64, 1, True), (8, 256, 3, True), (4, 32, 3, True), (8, 128, 3, False)]
)
def test_amx_has_its_weight_gradients_by_products_where_kernels_or_maps_are_small(amx, side, channels, size, taken):
    films = keras.Input((side, side, channels))
    layer = keras.layers.Conv2D(channels, size, padding="same", dtype="mixed_bfloat16")
    twin = twin_of(keras.Model(films, layer(films)))
    assert isinstance(twin.layers[-1], FastConvolution) is taken


@pytest.mark.usefixtures("without_native")
@pytest.mark.parametrize(("side", "size", "taken"), [(1, 3, True), (4, 1, True), (2, 3, False), (8, 1, False)])
def test_avx512_has_weight_gradients_of_bfloat16_by_products_where_maps_are_very_small(avx512, side, size, taken):
    films = keras.Input((side, side, 64))
    layer = keras.layers.Conv2D(64, size, padding="same", dtype="mixed_bfloat16")
    assert isinstance(twin_of(keras.Model(films, layer(films))).layers[-1], FastConvolution) is taken


@pytest.mark.usefixtures("without_native")
@pytest.mark.parametrize("cause", ["bfloat16", "avx512", "no onednn", "small films"])
def test_elsewhere_convolutions_stay_what_they_are(avx2, monkeypatch, cause):
    if cause == "avx512":
        monkeypatch.setattr(weight_gradient, "instruction_sets", lambda: frozenset({"avx2", "avx512f"}))
    if cause == "no onednn":
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    films = keras.Input((8, 8, 16) if cause == "small films" else (28, 28, 16))
    layer = keras.layers.Conv2D(16, 3, padding="same", dtype="mixed_bfloat16" if cause == "bfloat16" else "float32")
    assert twin_of(keras.Model(films, layer(films))).layers[-1] is layer


@pytest.mark.usefixtures("native")
def test_convolutions_have_their_weight_gradients_by_the_native_operation_but_for_the_first(avx512):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        twin = twin_of(build_backbone("vgg16", "none", "none", 32))
    finally:
        keras.config.set_dtype_policy("float32")
    assert of_kind(twin, keras.layers.Conv2D) - of_kind(twin, FastConvolution) == {"block1_conv1"}


@pytest.mark.usefixtures("without_native")
def test_products_train_what_keras_would(avx2):
    """Values and all gradients, with bias, activation and a concatenation as in a dense block."""
    compare_training(28, "float32", tolerance=1e-4, ways={gradient_by_products})


@needs_bfloat16
def test_products_of_bfloat16_train_what_keras_would(amx):
    compare_training(4, "mixed_bfloat16", tolerance=2**-6, ways={gradient_by_products})


@needs_bfloat16
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("side", [1, 4, 9])
def test_products_of_bfloat16_are_the_gradient_by_definition(side: int, size: int) -> None:
    generator = np.random.default_rng(side)
    inputs, upstream = (tf.cast(generator.normal(size=(3, side, side + 2, c)), tf.bfloat16) for c in (40, 17))
    got = tf.function(gradient_by_products)(inputs, upstream, size)
    x, dy = (tf.cast(values, tf.float64).numpy() for values in (inputs, upstream))
    padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    exact = [
        [np.einsum("nhwc,nhwf->cf", padded[:, i : i + side, j : j + side + 2], dy) for j in range(size)]
        for i in range(size)
    ]
    np.testing.assert_allclose(tf.cast(got, tf.float64), exact, rtol=0, atol=2**-6 * np.abs(exact).max())


@pytest.mark.usefixtures("native")
def test_the_native_operation_trains_what_keras_would(avx2):
    compare_training(28, "float32", tolerance=1e-4, ways={gradient_by_own_operation, gradient_by_products})


@needs_bfloat16
@pytest.mark.usefixtures("native")
def test_the_native_operation_trains_what_keras_would_in_bfloat16(avx512):
    compare_training(4, "mixed_bfloat16", tolerance=2**-6, ways={gradient_by_own_operation})


def compare_training(side: int, dtype: str, tolerance: float, ways: set[WeightGradient]) -> None:
    """Hold outputs and gradients of a twin against the model, to a share of the largest value.

    They may also be no further from those of float32, which is what is left of it where the CPU has no bfloat16:
    TensorFlow's own gradients are off there by two hundredths of the largest.

    All its convolutions must have their weight gradients in one of these ways, and each way must be taken.
    """
    keras.utils.set_random_seed(0)
    films = keras.Input((side, side + 2, 16))
    activated = {"activation": "relu", "bias_initializer": "normal", "dtype": dtype}
    first = keras.layers.Conv2D(24, 3, padding="same", name="first", **activated)(films)
    second = keras.layers.Conv2D(16, 1, use_bias=False, name="second", dtype=dtype)(first)
    joined = keras.layers.Concatenate(dtype=dtype)([first, second])
    model = keras.Model(films, keras.layers.Conv2D(17, 3, padding="same", name="third", dtype=dtype)(joined))
    twin = twin_of(model)
    convolutions = [layer for layer in twin.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {layer.weight_gradient for layer in convolutions} == ways
    assert [id(weight) for weight in twin.trainable_variables] == [id(weight) for weight in model.trainable_variables]
    some = GENERATOR.normal(size=(3, side, side + 2, 16)).astype(np.float32)
    exact = keras.models.clone_model(
        model, clone_function=lambda layer: type(layer).from_config({**layer.get_config(), "dtype": "float32"})
    )
    exact.set_weights(model.get_weights())

    @tf.function
    def train(trained: keras.Model) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            outputs = tf.cast(trained(some, training=True), tf.float32)
            loss = tf.reduce_mean(outputs**2)
        return [outputs, *tape.gradient(loss, [weight.value for weight in trained.trainable_variables])]

    for value, theirs, right in zip(train(twin), train(model), train(exact), strict=True):
        if dtype == "float32" or supports_bfloat16():
            np.testing.assert_allclose(value, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())
        assert np.linalg.norm(value - right) <= max(
            1.2 * np.linalg.norm(theirs - right), tolerance * np.linalg.norm(right)
        )
