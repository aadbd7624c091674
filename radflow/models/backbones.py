"""The backbones: one entry each, from which settings, families of registered models and benchmarks follow.

A new one is an entry of `ARCHITECTURES`, and its families in registry/policy.yaml where it is to be promoted. Its
learning rates are those that the rule has for networks with, or without, normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from radflow.errors import UserError


@dataclass(frozen=True)
class ChannelScaling:
    """What ImageNet weights were trained with: three channels of pixels, 0 to 255, times `scale` plus `offset`."""

    scale: tuple[float, float, float]
    offset: tuple[float, float, float]


# keras.applications' preprocess_input, in its modes "torch" and "caffe". Of grey films all three channels are the same.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STANDARDISED = ChannelScaling(
    (1 / (255 * _DEVIATION[0]), 1 / (255 * _DEVIATION[1]), 1 / (255 * _DEVIATION[2])),
    (-_MEAN[0] / _DEVIATION[0], -_MEAN[1] / _DEVIATION[1], -_MEAN[2] / _DEVIATION[2]),
)
CENTRED = ChannelScaling((1.0, 1.0, 1.0), (-103.939, -116.779, -123.68))


@dataclass(frozen=True)
class Architecture:
    """A backbone of keras.applications."""

    application: str
    """Name of its function there."""
    norm: Literal["batch", "none"]
    """Its own normalisation; that of batches may be replaced by others."""
    scaling: ChannelScaling
    smallest_image: int
    """Pixels a side below which Keras does not build it."""


ARCHITECTURES = {
    "densenet121": Architecture("DenseNet121", "batch", STANDARDISED, 32),
    "vgg16": Architecture("VGG16", "none", CENTRED, 32),
    "resnet50": Architecture("ResNet50", "batch", CENTRED, 32),
}
"""Architectures by the name that `arch` has."""

if TYPE_CHECKING:
    ArchitectureName = str
else:  # the command line takes these names and lists them
    ArchitectureName = Literal[tuple(ARCHITECTURES)]


def check_image_size(arch: str, image_size: int) -> None:
    """Raise UserError where the images are smaller than the backbone takes."""
    smallest = ARCHITECTURES[arch].smallest_image
    if image_size < smallest:
        raise UserError(f"arch={arch} does not take {image_size} px images; it takes those of {smallest} px or more")
