"""Small random changes of training films: another crop, turn and brightness of each film in each epoch.

What is drawn for a film follows from (seed, epoch, film) alone, so a step sees the same pixels however its films are
spread over ranks and micro-steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from radflow.errors import UserError


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Whether and how far training films are changed at random.

    Off unless asked for: the paper trains its chest models without, and in a few epochs nothing is learned by heart.
    The strengths are what positioning varies by between two films of one patient.
    """

    augment: bool = False
    """Change training films a little, differently in each epoch: crop, rotation and brightness."""
    augment_crop: float = 0.1
    """Largest share of the film's side that a crop cuts away (with augment), 0 to 0.5."""
    augment_rotation: float = 5.0
    """Largest turn to either side in degrees (with augment), 0 to 45."""
    augment_brightness: float = 0.1
    """Largest share by which a film is made brighter or darker (with augment), 0 to 0.5."""
    augment_flip: bool = False
    """Mirror every second film (with augment). Not for chest films: it moves the heart to the other side."""

    def __post_init__(self) -> None:
        """Check ranges, and that no strength is given in vain."""
        for name, largest in (("augment_crop", 0.5), ("augment_rotation", 45), ("augment_brightness", 0.5)):
            if not 0 <= getattr(self, name) <= largest:
                raise UserError(f"{name}={getattr(self, name)} is out of range: expected 0 to {largest}")
        changed = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        if changed and not self.augment:
            raise UserError(f"{changed[0]} does nothing while augment=false; add augment=true, or leave it out")


@dataclass(frozen=True)
class Augmentation:
    """The changes of all films in all epochs of a job."""

    config: AugmentationConfig
    seed: int

    def apply(self, films: NDArray[np.uint8], samples: NDArray[np.integer], epoch: int) -> NDArray[np.uint8]:
        """Change films [n, H, W], the films `samples` [n] of the training split, as (seed, epoch, sample) say."""
        if not self.config.augment:
            return films
        margin = _margin(films.shape[1:], self.config)
        extended = np.pad(films, ((0, 0), (margin, margin), (margin, margin)), mode="edge")
        changed = np.empty_like(films)
        for place, sample in enumerate(samples.tolist()):
            # A seed may end in zeros without changing: sample 0 must not share its numbers with the epoch's order.
            change = _draw(self.config, np.random.default_rng([self.seed, epoch, sample + 1]))
            changed[place] = _change(extended[place], films.shape[1:], change)
        return changed


class _Change(NamedTuple):
    """What is done to one film."""

    side: float
    """Side of the window, as a share of the film's."""
    down: float
    right: float
    """Place of the window, from 0 (at the top, at the left) to 1."""
    angle: float
    """Turn of the window, in radians."""
    is_mirrored: bool
    gain: float
    """Factor on grey levels."""


def _draw(config: AugmentationConfig, random: np.random.Generator) -> _Change:
    """Draw all that can be drawn, whatever the strengths: one that is raised does not change the others."""
    crop, down, right, turn, mirror, brightness = random.random(6).tolist()
    return _Change(
        side=1 - config.augment_crop * crop,
        down=down,
        right=right,
        angle=math.radians(config.augment_rotation) * (2 * turn - 1),
        is_mirrored=config.augment_flip and mirror < 0.5,
        gain=1 + config.augment_brightness * (2 * brightness - 1),
    )


def _margin(shape: tuple[int, ...], config: AugmentationConfig) -> int:
    """Return by how many pixels a turned window may reach beyond the film, and two for the interpolation."""
    return 2 + math.ceil(max(shape) / 2 * math.sin(math.radians(config.augment_rotation)))


def _change(extended: NDArray[np.uint8], shape: tuple[int, ...], change: _Change) -> NDArray[np.uint8]:
    """Look at a film [H, W] = `shape`, which is extended by its own edge, through the window of a change.

    Bilinear interpolation is enough: a window is never larger than the film, so nothing is shrunk. Positions are those
    of Pillow's affine transform, which puts the centre of the first pixel at 0.5.
    """
    height, width = shape
    centre_y = height * (change.side / 2 + change.down * (1 - change.side)) + (extended.shape[0] - height) / 2
    centre_x = width * (change.side / 2 + change.right * (1 - change.side)) + (extended.shape[1] - width) / 2
    along, across = change.side * math.cos(change.angle), change.side * math.sin(change.angle)
    mirror = -1 if change.is_mirrored else 1
    to_x = (mirror * along, -across, centre_x - mirror * along * width / 2 + across * height / 2)
    to_y = (mirror * across, along, centre_y - mirror * across * width / 2 - along * height / 2)
    seen = Image.fromarray(extended).transform(
        (width, height), Image.Transform.AFFINE, (*to_x, *to_y), Image.Resampling.BILINEAR
    )
    levels = np.rint(np.clip(np.arange(256) * change.gain, 0, 255)).astype(np.uint8)
    return levels.take(np.asarray(seen))
