"""Backbones of keras.applications with a choice of normalisation and of initial weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import keras

from radflow.errors import UserError
from radflow.models.backbones import ARCHITECTURES, check_image_size
from radflow.models.precision import dtype_policy
from radflow.models.weights_file import check_weights_file

BATCH_NORM_MOMENTUM = 0.9
"""keras.applications has 0.99, whose moving statistics need hundreds of steps; large-batch training has few."""

_GROUPS = {"group": 32, "instance": -1}
"""Groups of channels, as in Wu & He 2018 (arXiv:1803.08494); instance normalisation has one a channel."""


def build_backbone(
    arch: str, norm: str, weights: str, image_size: int, weights_file: Path | None = None
) -> keras.Model:
    """Convolutional body without its classifier: float [n, size, size, 3] -> features [n, h, w, channels].

    Layer names are those of keras.applications, so that weights are exchanged by name. Where `weights` names a model
    that is kept elsewhere, `weights_file` is its .keras file on this machine.

    Raises
    ------
    UserError
        The images are too small, or the weights cannot be had, or are of another architecture, or of a classifier with
        another normalisation.
    """
    shape = (image_size, image_size, 3)
    check_image_size(arch, image_size)
    backbone = _application(arch)(include_top=False, weights=None, input_shape=shape, name=arch)
    _check_norm(norm, backbone.output_shape[1], image_size)
    if norm in _GROUPS:
        backbone = keras.models.clone_model(
            backbone, clone_function=lambda layer: _with_norm(layer, norm), call_function=_call_without_mask
        )
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = BATCH_NORM_MOMENTUM
            # Ranks know a layer that wants the films of all by Keras' own mark, which a saved model may carry anywhere.
            layer.synchronized = norm == "sync_batch"
    if weights != "none":
        with dtype_policy("float32"):
            source = _read_weights(backbone, weights, weights_file or Path(weights), shape)
        _copy_weights(source, backbone, weights)
    return backbone


def _application(arch: str) -> Callable[..., keras.Model]:
    application: Callable[..., keras.Model] = getattr(keras.applications, ARCHITECTURES[arch].application)
    return application


def _check_norm(norm: str, smallest_map: int, image_size: int) -> None:
    """An instance norm makes zeros of a map of one value, so that the last layers would say nothing of a film."""
    if norm == "instance" and smallest_map == 1:
        raise UserError(
            f"norm=instance has nothing to normalise in maps of one pixel, to which {image_size} px images shrink; "
            "give norm=group or images of 64 px or more"
        )


def _with_norm(layer: keras.Layer, norm: str) -> keras.Layer:
    """The layer itself, made again; a batch normalisation becomes a group normalisation under the same name."""
    if not isinstance(layer, keras.layers.BatchNormalization):
        return layer.__class__.from_config(layer.get_config())
    settings = {"epsilon": layer.epsilon, "name": layer.name, "dtype": layer.dtype_policy}
    return keras.layers.GroupNormalization(_GROUPS[norm], **settings)


def _call_without_mask(layer: keras.Layer, *inputs: keras.KerasTensor, **options: object) -> keras.KerasTensor:
    """Batch normalisation is called with a mask that its replacements do not take; films have none."""
    options.pop("mask", None)
    return layer(*inputs, **options)


def _read_weights(backbone: keras.Model, weights: str, path: Path, shape: tuple[int, int, int]) -> keras.Model:
    """A model that holds weights for `backbone`: the body of a classifier, or the architecture's plain form."""
    arch = backbone.name
    if weights == "imagenet":
        try:
            return _application(arch)(include_top=False, weights="imagenet", input_shape=shape)
        except Exception as error:
            raise UserError(
                f"weights=imagenet could not be downloaded ({' '.join(str(error).split())}); "
                "give weights=FILE with a .keras model or a .weights.h5 of the backbone, or weights=none"
            ) from error
    check_weights_file(str(path))
    try:
        if path.suffix == ".keras":
            classifier = keras.models.load_model(path, compile=False, safe_mode=True)
            return _body_of(classifier, backbone, weights)
        source = _application(arch)(include_top=False, weights=None, input_shape=shape)
        with warnings.catch_warnings():
            # Keras only warns where a file lacks layers, and leaves them at random values.
            warnings.simplefilter("error", UserWarning)
            source.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError, UserWarning) as error:
        told = " ".join(str(error).split())[:300]
        reason = "layers of it are missing" if isinstance(error, UserWarning) else told
        fix = f"give a file of {arch}, the arch that it is of, or weights=none"
        raise UserError(f"weights={weights} does not hold weights of {arch}: {reason}; {fix}") from error
    return source


def _body_of(classifier: keras.Model, backbone: keras.Model, weights: str) -> keras.Model:
    """The body of a classifier; its features are worth something with its own normalisation only."""
    body = next((layer for layer in classifier.layers if isinstance(layer, keras.Model)), classifier)
    given, expected = (f"{model.name} with norm={_norm_of(model)}" for model in (body, backbone))
    if given != expected:
        raise UserError(f"weights={weights} are of {given}, not of {expected}; give their arch and norm, or others")
    return body


def _norm_of(body: keras.Model) -> str:
    """The kind of its normalisations; batch normalisation has the same weights over one rank and over all."""
    for layer in body.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            return "batch"
        if isinstance(layer, keras.layers.GroupNormalization):
            return "group" if layer.groups == _GROUPS["group"] else "instance"
    return "none"


def _copy_weights(source: keras.Model, backbone: keras.Model, weights: str) -> None:
    """Copy layer by layer, by name; normalisations of another kind keep their own initial values."""
    originals = {layer.name: layer for layer in source.layers if layer.weights}
    for layer in backbone.layers:
        original = originals.get(layer.name)
        if not layer.weights or (original is not None and type(original) is not type(layer)):
            continue
        if original is None:
            raise UserError(f"weights={weights} holds no layer {layer.name}; they are of another architecture")
        layer.set_weights(original.get_weights())
