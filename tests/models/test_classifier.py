from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
from number_formats import needs_bfloat16

from radflow.errors import UserError
from radflow.models.backbone_builder import build_backbone
from radflow.models.backbones import ARCHITECTURES
from radflow.models.classifier import build_classifier, build_logits_model
from radflow.models.config import ModelConfig

PREVALENCES = np.linspace(0.01, 0.3, 14)


def films(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size), np.uint8)


def build(size: int = 64, precision: str = "float32", seed: int = 0, **settings: str) -> keras.Model:
    return build_classifier(ModelConfig(**settings), precision, size, PREVALENCES, seed)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_body_computes_what_keras_applications_computes(arch, tmp_path):
    """Same weights, same film, preprocessing as keras.applications defines it: same features."""
    application = getattr(keras.applications, ARCHITECTURES[arch].application)
    keras.utils.set_random_seed(3)
    reference = application(include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg")
    reference.save_weights(tmp_path / "body.weights.h5")
    classifier = build(arch=arch, weights=str(tmp_path / "body.weights.h5"))
    grey = films(2, 64)
    colour = np.repeat(grey[..., np.newaxis], 3, axis=-1).astype(np.float32)
    preprocess_input = sys.modules[application.__module__].preprocess_input
    expected = reference(preprocess_input(colour.copy()), training=False)
    features = keras.Model(classifier.input, classifier.get_layer("pool").output)(grey, training=False)
    np.testing.assert_allclose(features, expected, rtol=2e-3, atol=2e-4)


def test_an_untrained_model_predicts_the_prevalences():
    probabilities = build()(films(3, 64)).numpy()
    np.testing.assert_allclose(probabilities, np.tile(PREVALENCES, (3, 1)), rtol=1e-5)
    assert probabilities.dtype == np.float32


@pytest.mark.parametrize("norm", ["batch", "sync_batch", "group", "instance"])
def test_each_norm_takes_the_place_of_every_batch_norm(norm):
    body = build_backbone("resnet50", norm, "none", 64)
    layers = [layer for layer in body.layers if layer.name.endswith("_bn") or layer.name == "bn"]
    assert len(layers) == 53
    expected = keras.layers.GroupNormalization if norm in ("group", "instance") else keras.layers.BatchNormalization
    assert {type(layer) for layer in layers} == {expected}
    assert {getattr(layer, "synchronized", False) for layer in layers} == {norm == "sync_batch"}


@pytest.mark.parametrize("size", [32, 1024])
def test_films_from_32_to_1024_pixels_are_taken(size):
    body = build_backbone("vgg16", "none", "none", size)
    assert body.output_shape == (None, size // 32, size // 32, 512)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"arch": "vgg16", "size": 31}, "vgg16 does not take 31 px images"),
        ({"arch": "resnet50", "norm": "instance", "size": 32}, "norm=instance"),
    ],
)
def test_films_too_small_for_a_network_are_refused(settings, named):
    with pytest.raises(UserError, match=named):
        build(**settings)


def test_instance_norm_normalises_each_film_and_channel():
    body = build(norm="instance").get_layer("densenet121")
    layer = body.get_layer("conv1_bn")
    values = np.random.default_rng(1).normal(3, 5, (2, 8, 8, 64)).astype(np.float32)
    mean, variance = values.mean((1, 2), keepdims=True), values.var((1, 2), keepdims=True)
    expected = (values - mean) / np.sqrt(variance + layer.epsilon)
    np.testing.assert_allclose(layer(values), expected, atol=1e-4)


def test_other_norms_take_the_convolutions_of_a_weights_file(tmp_path):
    keras.utils.set_random_seed(3)
    reference = keras.applications.DenseNet121(include_top=False, weights=None, input_shape=(64, 64, 3))
    reference.save_weights(tmp_path / "body.weights.h5")
    body = build(norm="group", weights=str(tmp_path / "body.weights.h5")).get_layer("densenet121")
    for name in ("conv1_conv", "conv5_block16_2_conv"):
        np.testing.assert_array_equal(body.get_layer(name).get_weights()[0], reference.get_layer(name).get_weights()[0])


@pytest.mark.parametrize("precision", ["float32", pytest.param("mixed_bfloat16", marks=needs_bfloat16)])
def test_a_saved_model_is_whole_and_needs_no_pickle(precision, tmp_path):
    classifier = build(precision=precision, norm="group")
    classifier.get_layer("logits").kernel.assign(np.random.default_rng(0).normal(size=(1024, 14)))
    classifier.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    np.testing.assert_array_equal(again(films(2, 64)), classifier(films(2, 64)))
    assert again.input_shape == (None, 64, 64)


def test_the_body_of_a_saved_classifier_can_be_the_weights(tmp_path):
    first = build(seed=5)
    first.save(tmp_path / "model.keras")
    second = build(seed=6, weights=str(tmp_path / "model.keras"), size=96)
    bodies = (classifier.get_layer("densenet121").weights for classifier in (first, second))
    for left, right in zip(*bodies, strict=True):
        np.testing.assert_array_equal(left, right)


def test_probabilities_are_the_sigmoid_of_the_logits():
    classifier = build(arch="vgg16")
    logits = build_logits_model(classifier)(films(2, 64)).numpy()
    np.testing.assert_allclose(classifier(films(2, 64)), 1 / (1 + np.exp(-logits)), rtol=1e-6)


def test_a_classifier_of_another_norm_or_architecture_is_refused_by_both_names(tmp_path):
    build(norm="group").save(tmp_path / "group.keras")
    for settings, names in (({}, "batch"), ({"norm": "instance"}, "instance")):
        with pytest.raises(UserError, match=f"densenet121 with norm=group, not of densenet121 with norm={names}"):
            build(**settings, weights=str(tmp_path / "group.keras"))
    with pytest.raises(UserError, match="of densenet121 with norm=group, not of vgg16 with norm=none"):
        build(arch="vgg16", weights=str(tmp_path / "group.keras"))


def test_the_real_imagenet_weights_are_taken(real_data):
    path = real_data / "weights" / "vgg16_imagenet_notop.weights.h5"
    body = build(arch="vgg16", weights=str(path)).get_layer("vgg16")
    # The first filter bank of VGG-16 sees edges and colours: far from any random initialisation's spread.
    assert float(np.abs(body.get_layer("block1_conv1").kernel).max()) > 0.4


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"weights": "nowhere.h5"}, "nowhere.h5"),
        ({"arch": "vgg16", "weights": __file__}, "test_classifier.py cannot be read"),
        ({"arch": "vgg16", "norm": "batch"}, "norm=batch"),
        ({"norm": "none"}, "norm=none"),
    ],
)
def test_what_cannot_be_built_is_one_line(settings, named):
    with pytest.raises(UserError, match=named) as error:
        build(**settings)
    assert "\n" not in str(error.value)


def test_weights_of_another_architecture_are_refused(tmp_path):
    keras.applications.VGG16(include_top=False, weights=None, input_shape=(64, 64, 3)).save_weights(
        tmp_path / "vgg.weights.h5"
    )
    with pytest.raises(UserError, match="densenet121"):
        build(weights=str(tmp_path / "vgg.weights.h5"))
