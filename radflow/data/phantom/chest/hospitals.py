"""Hospitals that phantom films come from: they differ in patients and technique, as real ones do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HospitalName = Literal["first", "second"]


@dataclass(frozen=True)
class Hospital:
    """How a hospital differs from the first, which is like the release's; powers and factors of 1 change nothing."""

    portable_power: float = 1.0
    """Power of the share of portable films (AP): below 1 there are more."""
    healthy_factor: float = 1.0
    """Factor on the share of films without a finding."""
    gamma_factor: float = 1.0
    """Factor on the exponent of brightness: above 1 films are darker."""
    noise_factor: float = 1.0


HOSPITALS: dict[HospitalName, Hospital] = {
    "first": Hospital(),
    "second": Hospital(portable_power=0.4, healthy_factor=0.4, gamma_factor=1.5, noise_factor=2.0),
}
