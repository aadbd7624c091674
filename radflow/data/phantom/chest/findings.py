"""How each of the fourteen findings changes a chest: its anatomy first, then the picture.

The signs follow the usual radiographic description of each finding (Hansell et al., "Fleischner Society: Glossary of
Terms for Thoracic Imaging", Radiology 246, 2008). They are caricatures for machines to learn from, not for physicians.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from radflow.data.phantom.chest.anatomy import FLUID_LEVEL, Anatomy, Chest
from radflow.data.phantom.drawing import Chance, Map, edge, hill, ridges, shade, stroke


def remodel_cardiomegaly(anatomy: Anatomy, chance: Chance) -> None:
    """Widen the heart to more than half of the chest."""
    anatomy.heart_width *= chance.between(1.25, 1.42)
    anatomy.heart_height *= chance.between(1.05, 1.2)


def remodel_emphysema(anatomy: Anatomy, chance: Chance) -> None:
    """Overinflated lungs: low flat diaphragm, narrow heart, few vessels, wide rib spaces."""
    anatomy.diaphragm += chance.between(0.0, 0.06)
    anatomy.diaphragm_curve *= chance.between(0.2, 0.5)
    anatomy.heart_width *= chance.between(0.88, 1.0)
    anatomy.vessels *= chance.between(0.3, 0.6)
    anatomy.rib_spacing *= chance.between(1.05, 1.15)


def remodel_atelectasis(anatomy: Anatomy, chance: Chance) -> None:
    """Loss of volume on one side: its half of the diaphragm is drawn up."""
    side, lift = chance.side(), chance.between(0.04, 0.12)
    anatomy.raised_right += np.where(side < 0, lift, 0)
    anatomy.raised_left += np.where(side > 0, lift, 0)


def remodel_edema(anatomy: Anatomy, chance: Chance) -> None:
    """Widen the heart somewhat and fill the vessels."""
    anatomy.heart_width *= chance.between(1.0, 1.2)
    anatomy.vessels *= chance.between(1.0, 1.3)


REMODELLING: dict[str, Callable[[Anatomy, Chance], None]] = {
    "Cardiomegaly": remodel_cardiomegaly,
    "Emphysema": remodel_emphysema,
    "Atelectasis": remodel_atelectasis,
    "Edema": remodel_edema,
}
"""Findings that change the shape of the chest; run before the chest is placed on the film."""


def draw_atelectasis(picture: Map, chest: Chest, chance: Chance) -> Map:
    """Plates: one to three dense bands across the middle and lower zone of a lung, with sharp edges."""
    side, height = chance.side(), chance.between(-0.05, 0.2)
    for number in range(3):
        shown = chance.happens(1.0 if number == 0 else 0.7)
        right = chest.u - side * chance.between(0.36, 0.46)
        down = chest.v - height - 0.11 * (number - 1)
        slope = chance.between(-0.5, 0.5)
        length, thickness = chance.between(0.16, 0.26), chance.between(0.03, 0.045)
        plate = stroke(right + slope * down, down - slope * right, length, thickness)
        picture = shade(picture, shown * chest.thorax * plate * chance.between(0.8, 1.0), FLUID_LEVEL)
    return picture


def draw_effusion(picture: Map, chest: Chest, chance: Chance) -> Map:
    """Fluid in the pleural space: the costophrenic angle is filled, the surface a meniscus that climbs laterally."""
    side, both = chance.side(), chance.happens(0.3)
    depth, climb = chance.between(0.06, 0.26), chance.between(0.12, 0.25)
    outward = np.clip(np.abs(chest.u) / chest.anatomy.chest_width, 0, 1)
    surface = chest.dome + 0.16 - depth - climb * np.square(outward**2)
    fluid = edge(chest.v - surface, 0.05) * edge(chest.lateral) * edge(chest.above_base + 0.03)
    fluid = fluid * edge(np.abs(chest.u) - 0.1, 0.1)
    here = np.maximum(both, (chest.u * side > 0).astype(np.float32))
    return shade(picture, here * fluid * chance.between(0.8, 0.95), FLUID_LEVEL)


def draw_infiltration(picture: Map, chest: Chest, chance: Chance) -> Map:
    """Ill-defined patches of fine, streaky shadow in two to four places."""
    streaks = edge(chance.texture(26, chest.size), 1.0)
    cloud = np.zeros_like(picture)
    for number in range(4):
        shown = chance.happens(1.0 if number < 2 else 0.5)
        patch = _spot(chest, chance, chance.side(), chance.between(0.17, 0.27), chance.between(-0.35, 0.3))
        cloud = np.maximum(cloud, shown * hill(patch))
    opacity = chest.thorax * cloud * streaks
    return shade(picture, opacity * chance.between(0.8, 1.0), 0.70)


def draw_mass(picture: Map, chest: Chest, chance: Chance) -> Map:
    """One rounded, lobulated, dense shadow of more than 3 cm."""
    radius = chance.between(0.13, 0.20)
    patch = _spot(chest, chance, chance.side(), radius, chance.between(-0.45, 0.25))
    lobulated = 1 - np.sqrt(patch) + 0.10 * chance.texture(9, chest.size)
    return shade(picture, chest.thorax * edge(lobulated, 0.3) * chance.between(0.85, 1.0), FLUID_LEVEL)


def draw_nodule(picture: Map, chest: Chest, chance: Chance) -> Map:
    """One to four small, round, sharp spots of less than 3 cm."""
    for number in range(4):
        shown = chance.happens(1.0 if number == 0 else 0.65)
        radius = chance.between(0.05, 0.07)
        patch = _spot(chest, chance, chance.side(), radius, chance.between(-0.5, 0.25))
        opacity = shown * edge(1.1 - np.sqrt(patch), 0.4) * chance.between(0.85, 1.0)
        picture = shade(picture, chest.thorax * opacity, 0.88)
    return picture


def draw_pneumonia(picture: Map, chest: Chest, chance: Chance) -> Map:
    """One large, fluffy, coarsely mottled shadow in the middle or lower zone of one lung."""
    patch = _spot(chest, chance, chance.side(), chance.between(0.26, 0.38), chance.between(-0.1, 0.28))
    mottles = edge(chance.texture(14, chest.size) + 0.1, 0.6)
    opacity = edge(1 - np.sqrt(patch), 0.7) * (0.25 + 0.75 * mottles)
    return shade(picture, chest.thorax * opacity * chance.between(0.8, 1.0), 0.77)


def draw_pneumothorax(picture: Map, chest: Chest, chance: Chance) -> Map:
    """Air beside a collapsed lung: a black rim without vessels, the thin pleural line, a denser lung inside."""
    side = chance.side()
    rim = chance.between(0.09, 0.22) * (0.65 + 0.6 * edge(-chest.v, 1.2))
    here = edge(chest.u * side, 0.05)
    inwards = _from_wall(chest)
    air = here * chest.thorax * (1 - chest.heart) * edge(rim - inwards)
    pleura = here * chest.thorax * edge(0.016 - np.abs(inwards - rim), 0.03)
    lung = here * chest.lungs * edge(inwards - rim)
    picture = shade(picture, lung * chance.between(0.0, 0.2), 0.55)
    picture = shade(picture, air * chance.between(0.85, 1.0), 0.07)
    return shade(picture, 0.8 * pleura, 0.65)


def draw_consolidation(picture: Map, chest: Chest, chance: Chance) -> Map:
    """Fill a lobe with fluid: dense and even, ending straight at a fissure, crossed by dark air bronchograms."""
    side, upper = chance.side(), chance.happens(0.5)
    slope = chance.between(-0.25, 0.1)
    outward = chest.u * side
    from_fissure = (chest.v - chance.between(-0.12, 0.08) + slope * (outward - 0.4)) * (1 - 2 * upper)
    lobe = edge(from_fissure) * edge(chance.between(0.24, 0.36) - from_fissure, 0.3) * edge(outward - 0.08, 0.06)
    spread = ridges((chest.v + 0.02) / (0.10 + 0.28 * np.maximum(outward, 0)) + chance.between(0.0, 1.0), 0.16)
    opacity = chest.thorax * lobe * (1 - 0.45 * spread * edge(0.6 - outward, 0.2))
    return shade(picture, opacity * chance.between(0.85, 0.97), FLUID_LEVEL)


def draw_edema(picture: Map, chest: Chest, chance: Chance) -> Map:
    """Haze around both hila like the wings of a bat, and short septal (Kerley B) lines at the lateral bases."""
    across = np.abs(chest.u)
    lopsided = 1 + chance.around(0.0, 0.1) * np.sign(chest.u)
    wings = hill(((across - 0.24) / 0.42) ** 2 + ((chest.v + 0.0) / 0.52) ** 2)
    cloudy = 0.75 + 0.35 * chance.texture(11, chest.size)
    picture = shade(picture, chest.thorax * np.sqrt(wings) * lopsided * cloudy * chance.between(0.3, 0.55), 0.70)
    septa = ridges(chest.v / 0.075, 0.4) * edge(0.16 - chest.lateral, 0.05) * edge(0.25 - np.abs(chest.v - 0.25), 0.1)
    return shade(picture, chest.thorax * septa * chance.between(0.6, 0.9), 0.70)


def draw_emphysema(picture: Map, chest: Chest, chance: Chance) -> Map:
    """Hyperlucent lungs with a few bullae, whose walls are thin and whose inside is black."""
    picture = shade(picture, chest.lungs * chance.between(0.05, 0.25), 0.12)
    for _ in range(3):
        radius = chance.between(0.09, 0.16)
        inside = 1 - np.sqrt(_spot(chest, chance, chance.side(), radius, chance.between(-0.5, 0.1)))
        picture = shade(picture, chest.lungs * edge(inside, 0.2) * 0.9, 0.05)
        picture = shade(picture, chest.lungs * edge(0.12 - np.abs(inside), 0.12) * 0.35, 0.5)
    return picture


def draw_fibrosis(picture: Map, chest: Chest, chance: Chance) -> Map:
    """Draw a net of fine lines (reticulation), densest at the base and along the periphery of both lungs."""
    net = np.zeros_like(picture)
    for cells in (22, 30):
        net = np.maximum(net, 1 - edge(np.abs(chance.texture(cells, chest.size)) - 0.25, 0.3))
    periphery = np.clip(1.15 - chest.lateral / 0.42, 0, 1)
    base = edge(chest.v - chance.between(-0.4, 0.1), 0.5)
    where = np.maximum(periphery * (0.35 + 0.65 * base), 0.9 * base * edge(np.abs(chest.u) - 0.2, 0.2))
    return shade(picture, chest.lungs * where * net * chance.between(0.8, 1.0), 0.75)


def draw_pleural_thickening(picture: Map, chest: Chest, chance: Chance) -> Map:
    """Draw a dense band along the lateral wall or over the apex, wavy and sharp on its inner side."""
    side, both = chance.side(), chance.happens(0.25)
    middle, extent = chance.between(-0.45, 0.1), chance.between(0.28, 0.45)
    here = np.maximum(both, edge(chest.u * side, 0.05))
    thickness = chance.between(0.08, 0.14) * np.sqrt(hill(((chest.v - middle) / extent) ** 2))
    wavy = thickness * (1 + 0.25 * chance.texture(10, chest.size))
    inwards = _from_wall(chest)
    band = edge(wavy - inwards) * edge(thickness - 0.02)
    return shade(picture, here * chest.thorax * band * chance.between(0.85, 1.0), 0.80)


def draw_hernia(picture: Map, chest: Chest, chance: Chance) -> Map:
    """Draw a rounded shadow behind the heart, usually with gas above a fluid level inside (hiatal hernia)."""
    radius = chance.between(0.13, 0.2)
    down = chest.v - (chest.anatomy.diaphragm - chance.between(0.02, 0.26))
    right = chest.u - chance.between(-0.1, 0.18)
    inside = 1 - np.sqrt(right**2 + down**2) / radius
    picture = shade(picture, edge(inside, 0.2), 0.90)
    gas = edge(inside - 0.22, 0.15) * edge(radius * chance.between(-0.1, 0.25) - down)
    return shade(picture, gas * chance.between(0.8, 1.0), 0.28)


def _from_wall(chest: Chest) -> Map:
    """Distance inwards from the lateral wall and the apex of the lung, with a round corner between them."""
    lateral, below_apex = np.maximum(chest.lateral, 0), np.maximum(chest.v - chest.anatomy.apex, 0)
    return lateral * below_apex / np.sqrt(lateral**2 + below_apex**2 + np.float32(1e-6))


def _spot(chest: Chest, chance: Chance, side: Map, radius: Map, height: Map) -> Map:
    """Squared distance, in radii, from a random place in a lung at the given height: below 1 inside the spot."""
    outward = chance.between(0.26, 0.56)
    stretch = chance.around(1.0, 0.12)
    right = (chest.u - side * outward) * stretch
    down = (chest.v - height) / stretch
    return (right**2 + down**2) / radius**2


DRAWING: dict[str, Callable[[Map, Chest, Chance], Map]] = {
    "Emphysema": draw_emphysema,
    "Edema": draw_edema,
    "Infiltration": draw_infiltration,
    "Pneumonia": draw_pneumonia,
    "Fibrosis": draw_fibrosis,
    "Consolidation": draw_consolidation,
    "Atelectasis": draw_atelectasis,
    "Mass": draw_mass,
    "Nodule": draw_nodule,
    "Pleural_Thickening": draw_pleural_thickening,
    "Pneumothorax": draw_pneumothorax,
    "Effusion": draw_effusion,
    "Hernia": draw_hernia,
}
"""Findings that change the picture, in the order of drawing: what hides the lung comes after what is in the lung."""
