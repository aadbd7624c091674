"""Bodies by the native operations: the values, gradients and statistics of Keras' own in float64."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.applications.densenet import DenseNet
from keras.src.applications.resnet import ResNet, stack_residual_blocks_v1
from native_operations import native, without_native  # noqa: F401 - fixtures
from number_formats import needs_bfloat16

from radflow.models import weight_gradient
from radflow.models.backbone_builder import build_backbone
from radflow.models.classifier import build_classifier, build_logits_model
from radflow.models.config import ModelConfig
from radflow.models.dense_block import DenseBlocks
from radflow.models.native_body import NativeBody
from radflow.models.plain_blocks import PlainBlocks
from radflow.models.precision import dtype_policy
from radflow.models.residual_block import ResidualBlocks
from radflow.models.twin import twin_of

SIZE = 64
BATCHES = np.random.default_rng(0).normal(size=(3, 4, SIZE, SIZE, 3)).astype(np.float32)
FILMS = BATCHES[0]
UPSTREAM = np.random.default_rng(1).normal(size=(4, SIZE // 32, SIZE // 32, 256)).astype(np.float32)
NORMALISED = {"densenet121": DenseBlocks, "resnet50": ResidualBlocks}
BODIES: dict[str, type[NativeBody]] = {**NORMALISED, "vgg16": PlainBlocks}


def body(arch: str, precision: str = "float32") -> keras.Model:
    """A short body whose normalisations and biases are not at their initial values."""
    keras.utils.set_random_seed(0)
    shape = (SIZE, SIZE, 3)
    with dtype_policy(precision):
        if arch == "resnet50":
            model = ResNet(short_stacks, False, True, False, None, input_shape=shape, name=arch)
        elif arch == "vgg16":
            model = short_vgg()
        else:
            model = DenseNet([2, 1, 3, 2], False, None, input_shape=shape)
    generator = np.random.default_rng(2)
    for weight in model.trainable_variables:
        if "kernel" not in weight.path:
            weight.assign(weight + generator.normal(0, 0.1, weight.shape))
    return model


def short_stacks(maps: keras.KerasTensor) -> keras.KerasTensor:
    """Blocks of all kinds: with and without a projection, by stride 1 and 2."""
    maps = stack_residual_blocks_v1(maps, 32, 2, stride1=1, name="conv2")
    maps = stack_residual_blocks_v1(maps, 32, 2, name="conv3")
    maps = stack_residual_blocks_v1(maps, 32, 1, name="conv4")
    return stack_residual_blocks_v1(maps, 64, 2, name="conv5")


def short_vgg(activation: str = "relu") -> keras.Model:
    """A convolution with a pooling behind it, and one without, down to two pixels a side."""
    maps = films = keras.Input((SIZE, SIZE, 3))
    for filters in (32, 32, 64, 64, 64):
        for _ in range(2):
            maps = keras.layers.Conv2D(filters, 3, padding="same", activation=activation)(maps)
        maps = keras.layers.MaxPooling2D()(maps)
    return keras.Model(films, maps, name="vgg16")


def twin(model: keras.Model) -> keras.Model:
    films = keras.Input(FILMS.shape[1:])
    return twin_of(keras.Model(films, model(films)))


def in_training(model: keras.Model, weights: list[tf.Tensor], dtype: str = "float32") -> list[list[np.ndarray]]:
    """Outputs, and gradients of the weights, for each batch."""

    @tf.function(autograph=False)
    def compute(films: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            outputs = model(films, training=True)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float64) * UPSTREAM[..., : outputs.shape[-1]])
        return [outputs, *tape.gradient(loss, weights)]

    return [[np.asarray(value, np.float64) for value in compute(tf.constant(films, dtype))] for films in BATCHES]


def split_biases(model: keras.Model) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Biases that a normalisation behind them cancels, and the other weights."""
    biases = [v.value for v in model.trainable_variables if model.name in NORMALISED and "bias" in v.path]
    return biases, [v.value for v in model.trainable_variables if model.name not in NORMALISED or "bias" not in v.path]


@pytest.fixture(scope="module", params=sorted(BODIES))
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def exact(arch: str) -> tuple[list[list[np.ndarray]], list[np.ndarray]]:
    """Outputs and gradients of Keras in float64 for each batch, and the moving statistics after them."""
    keras.backend.set_floatx("float64")
    try:
        model = keras.models.clone_model(
            body(arch), clone_function=lambda layer: type(layer).from_config({**layer.get_config(), "dtype": "float64"})
        )
        model.set_weights(body(arch).get_weights())
        values = in_training(model, split_biases(model)[1], "float64")
    finally:
        keras.backend.set_floatx("float32")
        keras.config.set_dtype_policy("float32")  # which `body` has set to what floatx was
    return values, [np.asarray(variable) for variable in model.non_trainable_variables]


def errors(values: list[np.ndarray], exact: list[np.ndarray]) -> np.ndarray:
    """Norm of each difference, relative to that of what is right."""
    return np.array([np.linalg.norm(v - e) / np.linalg.norm(e) for v, e in zip(values, exact, strict=True)])


def usual_errors(values: list[list[np.ndarray]], exact: list[list[np.ndarray]]) -> np.ndarray:
    """Those of the median batch: in one or another some ReLU is at its edge, and rounding decides what passes."""
    return np.median([errors(*batch) for batch in zip(values, exact, strict=True)], axis=0)


@pytest.fixture
def winograd(monkeypatch: pytest.MonkeyPatch):
    """A CPU on which 3x3 convolutions take Winograd's way."""
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setattr(weight_gradient, "instruction_sets", lambda: frozenset({"avx", "avx2"}))


@pytest.mark.parametrize("precision", ["float32", pytest.param("mixed_bfloat16", marks=needs_bfloat16)])
@pytest.mark.usefixtures("native")
def test_it_is_as_exact_as_tensorflows_own_operations(arch, precision, exact, request, monkeypatch) -> None:
    if arch == "vgg16":  # whose convolutions are nothing but 3x3, where fewer products round differently: below
        monkeypatch.setattr(weight_gradient, "fits_winograd", lambda _kernel: False)
    model = body(arch, precision)
    biases, weights = split_biases(model)
    fast = twin(model)
    assert type(fast.layers[-1]) is BODIES[arch]
    got = usual_errors(in_training(fast, weights), exact[0])
    statistics = errors([np.asarray(v, np.float64) for v in model.non_trainable_variables], exact[1])
    for _, *of_biases in in_training(fast, biases):
        assert not any(gradient.any() for gradient in of_biases)
    request.getfixturevalue("without_native")
    plain = twin(model)
    assert not isinstance(plain.layers[-1], NativeBody)
    theirs = usual_errors(in_training(plain, weights), exact[0])
    assert got[0] < 1.2 * theirs[0]
    assert np.median(got) < 1.2 * np.median(theirs)
    if precision == "float32":
        assert np.median(got) < 1e-5
        assert statistics.max(initial=0) < 1e-5


@pytest.mark.usefixtures("native", "winograd")
def test_with_fewer_products_it_is_exact_to_float32(arch, exact) -> None:
    model = body(arch)
    got = usual_errors(in_training(twin(model), split_biases(model)[1]), exact[0])
    assert got[0] < 1e-5
    assert np.median(got) < 1e-5


@pytest.mark.usefixtures("native")
def test_it_shares_all_variables_in_their_order_and_predicts_by_moving_statistics(arch: str) -> None:
    model = body(arch)
    fast = twin(model)
    assert list(map(id, fast.trainable_variables)) == list(map(id, model.trainable_variables))
    assert set(map(id, fast.variables)) == set(map(id, model.variables))
    in_training(fast, split_biases(model)[1])  # moves the statistics
    np.testing.assert_allclose(fast(FILMS, training=False), model(FILMS, training=False), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("cause", ["group", "sync_batch", "frozen"])
@pytest.mark.parametrize("arch", sorted(NORMALISED))
def test_what_it_does_not_compute_stays_as_it_is(arch: str, cause: str) -> None:
    model = build_backbone(arch, "batch" if cause == "frozen" else cause, "none", SIZE)
    model.trainable = cause != "frozen"
    assert not isinstance(twin(model).layers[-1], NativeBody)


@pytest.mark.usefixtures("native")
def test_a_stack_of_other_layers_stays_as_it_is() -> None:
    assert isinstance(twin(short_vgg()).layers[-1], PlainBlocks)
    assert not isinstance(twin(short_vgg("gelu")).layers[-1], NativeBody)
    films = keras.Input((SIZE, SIZE, 3))
    pooled_first = keras.layers.Conv2D(32, 3, padding="same", activation="relu")(keras.layers.MaxPooling2D()(films))
    assert not isinstance(twin(keras.Model(films, pooled_first, name="vgg16")).layers[-1], NativeBody)


@pytest.mark.usefixtures("native", "winograd")
def test_a_stack_of_odd_maps_has_the_gradients_of_keras() -> None:
    """Rows and columns that pooling leaves out, and which of the two is the height."""
    keras.utils.set_random_seed(0)
    maps = films = keras.Input((25, 31, 3))
    for filters in (32, 64):
        for _ in range(2):
            maps = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(maps)
        maps = keras.layers.MaxPooling2D()(maps)
    model = keras.Model(films, maps, name="vgg16")
    fast = twin_of(keras.Model(films, model(films)))
    assert isinstance(fast.layers[-1], PlainBlocks)
    given = BATCHES[0, :, :25, :31]

    def gradients(computed: keras.Model) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(computed(given, training=True) * BATCHES[1, 0, :6, :7, :1])
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    for gradient, expected in zip(gradients(fast), gradients(model), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.usefixtures("native")
def test_a_frozen_stack_is_computed_and_not_trained() -> None:
    model = short_vgg()
    model.trainable = False
    fast = twin(model)
    assert isinstance(fast.layers[-1], PlainBlocks)
    assert fast.trainable_variables == []
    np.testing.assert_allclose(fast(FILMS), model(FILMS), rtol=1e-4, atol=1e-5)


@needs_bfloat16
@pytest.mark.usefixtures("native")
def test_gradients_of_what_is_multiplied_as_bfloat16_are_not_rounded_to_it(arch: str, monkeypatch) -> None:
    """Keras would cast the kernels of a classifier to bfloat16 before its layers see them."""
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setattr(weight_gradient, "instruction_sets", lambda: frozenset({"avx2", "avx512f", "avx512_bf16"}))
    config = ModelConfig(arch=arch, norm="batch" if arch in NORMALISED else "none")
    model = build_logits_model(build_classifier(config, "mixed_bfloat16", SIZE, np.full(3, 0.1), seed=0))
    head = model.trainable_variables[-2]
    head.assign(np.random.default_rng(0).normal(0, 0.1, head.shape))
    # But of a first layer, which TensorFlow computes.
    kernels = [v for v in model.trainable_variables if v.shape[:2] == (3, 3) and v.shape[2] > 3]

    @tf.function(autograph=False)
    def compute() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(np.uint8(FILMS[..., 0] * 20 + 99), training=True))
        return tape.gradient(loss, [kernel.value for kernel in kernels])

    for gradient in compute():
        assert np.any(gradient != tf.cast(tf.cast(gradient, tf.bfloat16), tf.float32))
