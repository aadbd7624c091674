"""The normal chest of a phantom film: a patient's anatomy, how he stands before the film, and the picture of both.

Body coordinates: u from -1 (the patient's right, left on the film) to +1, v from -1 (top) to +1, the spine at u = 0.
Grey levels of the picture: 0 air outside the patient, about 0.25 lung, 0.75 heart, 0.85 below the diaphragm.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from radflow.data.phantom.drawing import Chance, Map, edge, hill, ridges, shade

LUNG_LEVEL = 0.24
HEART_LEVEL = 0.74
FLUID_LEVEL = 0.80


@dataclass
class Anatomy:
    """Measures of the films' patients, each [films, 1, 1], in body coordinates; findings may remodel them."""

    chest_width: Map
    apex: Map
    diaphragm: Map
    diaphragm_curve: Map
    raised_right: Map
    raised_left: Map
    heart_width: Map
    heart_height: Map
    heart_tilt: Map
    mediastinum: Map
    aortic_knob: Map
    vessels: Map
    vessel_phase: Map
    rib_spacing: Map
    rib_phase: Map
    rib_slope: Map
    clavicle: Map
    breast: Map
    body_width: Map

    @classmethod
    def draw(cls, chance: Chance, female: Map) -> Anatomy:
        """Draw the anatomies of patients; `female` is 1 or 0 as [films, 1, 1]."""
        return cls(
            chest_width=chance.around(0.74, 0.045) - 0.03 * female,
            apex=chance.around(-0.72, 0.03),
            diaphragm=chance.around(0.40, 0.06),
            diaphragm_curve=chance.around(0.16, 0.05),
            raised_right=chance.around(0.04, 0.03),
            raised_left=chance.around(0.0, 0.03),
            heart_width=chance.around(0.325, 0.02),
            heart_height=chance.around(0.33, 0.025),
            heart_tilt=chance.around(-0.30, 0.1),
            mediastinum=chance.around(0.115, 0.012),
            aortic_knob=chance.between(0.05, 0.10),
            vessels=chance.between(0.10, 0.17),
            vessel_phase=chance.between(0.0, 6.28),
            rib_spacing=chance.around(0.15, 0.01),
            rib_phase=chance.between(0.0, 1.0),
            rib_slope=chance.around(0.25, 0.05),
            clavicle=chance.around(-0.60, 0.03),
            breast=female * chance.between(0.04, 0.16),
            body_width=chance.around(1.08, 0.08),
        )

    def of(self, rows: NDArray[np.intp]) -> Anatomy:
        """Return the anatomies of some of the films."""
        return Anatomy(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def put(self, rows: NDArray[np.intp], changed: Anatomy) -> None:
        """Set the anatomies of some of the films."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(changed, field.name)


@dataclass(frozen=True)
class Chest:
    """Places of things on the films: maps [films, size, size] over the pixels.

    `u`, `v` are body coordinates, `lateral` the distance inwards from the lateral lung wall, `above_base` the distance
    upwards from the diaphragm, `dome` the v of its top on that side, `thorax` the rib cage above it, `lungs` its part
    beside heart and mediastinum.
    """

    anatomy: Anatomy
    u: Map
    v: Map
    lateral: Map
    above_base: Map
    dome: Map
    thorax: Map
    heart: Map
    lungs: Map

    @property
    def size(self) -> int:
        """Pixels along a side."""
        return int(self.u.shape[1])

    def of(self, rows: NDArray[np.intp]) -> Chest:
        """Return the chests of some of the films."""
        maps = (self.u, self.v, self.lateral, self.above_base, self.dome, self.thorax, self.heart, self.lungs)
        return Chest(self.anatomy.of(rows), *(array[rows] for array in maps))


def place_chest(anatomy: Anatomy, portable: Map, chance: Chance, size: int) -> Chest:
    """Lay the anatomies out on films of `size` pixels, each with its own position, breath and angle.

    `portable` is 1 for AP films: the tube is nearer, which widens the heart, and the patient breathes in less deeply.
    """
    u, v = _stand(chance, portable, size)
    breath = chance.around(0.0, 0.06) - 0.04 * portable
    width = anatomy.chest_width
    across = np.abs(u)
    height = np.clip((v - anatomy.apex) / (0.42 - anatomy.apex), 0, 1)
    bulge = (1 - height) ** 2 * np.sqrt(np.maximum(1 - height, 0))
    lateral = width * np.sqrt(np.maximum(1 - bulge, 0)) - across
    raised = np.where(u < 0, anatomy.raised_right, anatomy.raised_left)
    dome = anatomy.diaphragm + breath - raised
    above_base = dome + anatomy.diaphragm_curve * ((across - 0.52 * width) / (0.46 * width)) ** 2 - v
    thorax = edge(lateral) * edge(above_base)
    heart = _heart(anatomy, u, v - breath, 1 + 0.07 * portable)
    beside_spine = edge(across - anatomy.mediastinum - 0.13 * np.square(np.square(1 - height)))
    return Chest(anatomy, u, v, lateral, above_base, dome, thorax, heart, thorax * beside_spine * (1 - heart))


def draw_chest(chest: Chest, portable: Map, chance: Chance) -> Map:
    """Draw normal chests, before exposure and noise."""
    anatomy, u, v = chest.anatomy, chest.u, chest.v
    across = np.abs(u)
    picture = _soft_tissue(chest)
    picture = shade(picture, chest.thorax, LUNG_LEVEL + _veil(chest, chance))
    picture = picture + chest.lungs * _vessels(chest, chance.texture(10, chest.size))
    picture = picture + chest.lungs * 0.02 * chance.texture(28, chest.size)
    mediastinum = edge(anatomy.mediastinum * (1 + 0.35 * edge(v + 0.1, 0.6)) - across, 0.06) * edge(v + 0.95)
    knob = hill(((u - anatomy.mediastinum * 0.8) ** 2 + (v + 0.27) ** 2) / (2.2 * anatomy.aortic_knob**2))
    centre = np.maximum(np.maximum(chest.heart, mediastinum), np.sqrt(knob))
    picture = shade(picture, centre * edge(chest.lateral) * edge(chest.above_base + 0.02, 0.12), HEART_LEVEL)
    picture = picture + _bones(chest)
    trachea = edge(0.045 - np.abs(u - 0.01), 0.03) * edge(-0.22 - v, 0.1)
    picture = picture - 0.12 * trachea
    breast = edge(anatomy.breast * 2.2 - (across - 0.42) ** 2 * 2 - (v - 0.22) ** 2 * 2.2, 0.12)
    picture = picture + anatomy.breast * breast * edge(1.0 - across, 0.3)
    scapula = portable * edge(0.12 - np.abs(across - 0.72 + 0.1 * v), 0.06) * edge(0.35 - np.abs(v + 0.35), 0.2)
    return _stomach_bubble(picture + 0.06 * scapula, chest, chance)


def _stand(chance: Chance, portable: Map, size: int) -> tuple[Map, Map]:
    """Body coordinates of the pixels, for patients who stand a little off, tilted, nearer or farther."""
    axis = ((np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / size) - 1).astype(np.float32)
    x = axis[None, None, :] - chance.between(-0.18, 0.18)
    y = axis[None, :, None] - chance.between(-0.18, 0.18)
    angle = chance.around(0.0, 0.07) * (1 + 0.5 * portable)
    scale = chance.between(0.84, 1.14)
    return (x + angle * y) / scale, (y - angle * x) / (scale * chance.around(1.0, 0.04))


def _heart(anatomy: Anatomy, u: Map, v: Map, magnified: Map) -> Map:
    """Draw an egg that leans to the patient's left, its lower pole on the diaphragm."""
    half_width, half_height = anatomy.heart_width * magnified, anatomy.heart_height
    down = v - (anatomy.diaphragm - 0.42 * half_height)
    right = u - 0.35 * half_width + anatomy.heart_tilt * down
    return edge(1 - np.sqrt((right / half_width) ** 2 + (down / half_height) ** 2), 0.10)


def _soft_tissue(chest: Chest) -> Map:
    """Draw neck, shoulders, chest wall and abdomen; black beside the patient."""
    across = np.abs(chest.u)
    body_width = chest.anatomy.body_width
    slope = np.maximum(across - 0.2, 0)
    neck = np.clip(1.25 - across / 0.28, 0, 1) ** 2
    shoulders = edge(chest.v + 0.92 - 0.30 * slope - 0.22 * np.square(slope**2) + 1.5 * neck, 0.06)
    body = shoulders * edge(body_width - across, 0.08)
    wall = 0.62 - 0.22 * np.square(np.clip(across / body_width, 0, 1) ** 2)
    abdomen = edge(-chest.above_base, 0.05) * edge(chest.lateral + 0.10, 0.30)
    return body * shade(wall, abdomen, 0.86) + 0.02


def _veil(chest: Chest, chance: Chance) -> Map:
    """Vary how light the lungs are without any finding: build, a turn to one side, unsharp perihilar tissue."""
    even = chance.between(-0.08, 0.08)
    turned = chance.around(0.0, 0.05) * chest.u / chest.anatomy.chest_width
    upright = chance.around(0.0, 0.05) * (chest.v + 0.15)
    perihilar = chance.between(0.0, 0.10) * hill((chest.u / 0.8) ** 2 + (chest.v / 0.7) ** 2)
    return even + turned + upright + perihilar


def _vessels(chest: Chest, crooked: Map) -> Map:
    """Draw the hila, and vessels that fan out from them and fade towards the periphery."""
    anatomy = chest.anatomy
    right = np.abs(chest.u) - anatomy.mediastinum - 0.02
    down = chest.v + 0.02
    squared = right**2 + down**2
    # Runs from -1 (up) to 1 (down) like an angle, at a fraction of an arc tangent's cost.
    direction = down / (np.abs(down) + np.abs(right) + np.float32(1e-3)) + 0.12 * crooked
    bend = np.where(chest.u < 0, anatomy.vessel_phase, 2 * anatomy.vessel_phase)
    branches = np.maximum(ridges(3.0 * direction + bend, 0.16), 0.6 * ridges(5.8 * direction - bend, 0.2))
    fan = branches * np.clip(1 - np.sqrt(squared) / 0.62, 0, 1)
    return anatomy.vessels * (fan + 1.3 * hill(squared / 0.02))


def _bones(chest: Chest) -> Map:
    """Draw ribs, front and back, clavicles and spine: brightness to add."""
    anatomy, u, v = chest.anatomy, chest.u, chest.v
    outward = np.abs(u) / anatomy.chest_width
    cage = edge(chest.lateral + 0.05, 0.04) * edge(0.62 - v, 0.1) * edge(v - anatomy.apex + 0.02, 0.08)
    back = ridges((v - anatomy.rib_slope * outward**2) / anatomy.rib_spacing + anatomy.rib_phase, 0.42)
    front = ridges((v + 0.45 * outward**2) / (anatomy.rib_spacing * 1.15) + 2 * anatomy.rib_phase, 0.36)
    ribs = 0.065 * back + 0.05 * front * edge(outward - 0.35, 0.3)
    curve = v - anatomy.clavicle - 0.05 + 0.16 * outward - 0.025 * np.sin(6.3 * outward)
    clavicles = edge(0.025 - np.abs(curve)) * edge(1.15 - outward, 0.1) * edge(outward - 0.09)
    vertebrae = edge(0.06 - np.abs(u), 0.03) * (0.05 + 0.04 * ridges(v / (0.75 * anatomy.rib_spacing), 0.7))
    humeral_heads = hill(((outward - 1.28) / 0.26) ** 2 + ((v + 0.56) / 0.2) ** 2)
    return cage * ribs + 0.13 * clavicles + vertebrae + 0.16 * np.sqrt(humeral_heads)


def _stomach_bubble(picture: Map, chest: Chest, chance: Chance) -> Map:
    """Draw gas below the left diaphragm, in most patients."""
    below = chest.above_base + chance.between(0.07, 0.12)
    middle = chance.between(0.28, 0.42)
    spread = chance.between(0.08, 0.16)
    gas = hill(((chest.u - middle) / spread) ** 2 + (below / 0.06) ** 2)
    return picture - chance.happens(0.6) * chance.between(0.15, 0.45) * gas * edge(-chest.above_base, 0.03)
