"""Who is on the phantom films: patients, their visits, and what is found at each."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radflow.data.phantom.chest.hospitals import HOSPITALS, Hospital
from radflow.data.phantom.chest.labels import COMBINATIONS, NO_FINDING, combination_shares
from radflow.data.readers.chestxray14 import FINDINGS

FILMS_PER_PATIENT: tuple[tuple[int, int], ...] = (
    (1, 17_503), (2, 4_113), (3, 2_100), (4, 1_330), (5, 938), (6, 787), (7, 608), (8, 494), (9, 707), (11, 516),
    (14, 467), (18, 439), (25, 406), (38, 246), (66, 133), (125, 18),
)  # fmt: skip
"""(films, patients with so many) in the release: 30,805 patients; groups above 8 films stand at their middle."""

LABELS_STAY = 0.16
"""Chance that a follow-up film repeats the labels and the view of the film before.

In the release 41 % of follow-up films have the labels of the film before, 30 % would by coincidence.
"""

TEST_SHARE = 25_596 / 112_120
"""Share of the films in the release's test list."""


@dataclass(frozen=True)
class PhantomFilm:
    """One row of the label file."""

    patient: int
    follow_up: int
    combination: str
    age: int
    female: bool
    portable: bool

    @property
    def name(self) -> str:
        """File name in the release's form, such as 00000001_000.png."""
        return f"{self.patient:08d}_{self.follow_up:03d}.png"

    @property
    def labels(self) -> list[bool]:
        """One value per finding, in the order of `FINDINGS`."""
        found = self.combination.split("|")
        return [finding in found for finding in FINDINGS]


def draw_patients(films: int, seed: int, hospital: Hospital = HOSPITALS["first"]) -> list[PhantomFilm]:
    """Draw the rows of `films` films, ordered by patient and follow-up number."""
    chance = np.random.default_rng([seed, 0])
    rows: list[PhantomFilm] = []
    for patient, count in enumerate(_films_per_patient(films, chance), start=1):
        rows += _visits(patient, count, chance, hospital)
    return rows


def split_patients(rows: list[PhantomFilm], seed: int) -> set[int]:
    """Patients of the test list: whole patients in random order, up to the release's share of the films.

    Neither list is ever empty when there are two patients or more.
    """
    chance = np.random.default_rng([seed, 1])
    patients, counts = np.unique([row.patient for row in rows], return_counts=True)
    order = chance.permutation(len(patients))
    reached = np.cumsum(counts[order]) <= TEST_SHARE * len(rows)
    if len(patients) > 1:
        reached[0] = True
    return set(patients[order][reached].tolist())


def _films_per_patient(films: int, chance: np.random.Generator) -> list[int]:
    """Draw patients until the films are used up; no patient has more than a tenth of a small set."""
    sizes, patients = np.array(FILMS_PER_PATIENT).T
    most = max(1, films // 10)
    counts: list[int] = []
    left = films
    while left:
        count = min(int(chance.choice(sizes, p=patients / patients.sum())), most, left)
        counts.append(count)
        left -= count
    return counts


def _visits(patient: int, count: int, chance: np.random.Generator, hospital: Hospital) -> list[PhantomFilm]:
    """Draw the films of one patient, from the first visit on."""
    female = bool(chance.random() < 0.46)
    age = int(np.clip(chance.normal(45.5, 16.7), 2, 90))
    visits: list[PhantomFilm] = []
    for follow_up in range(count):
        if follow_up == 0 or chance.random() >= LABELS_STAY:
            combination, portable = _labels_and_view(chance, hospital)
        age = min(age + int(chance.random() < 0.15), 95)
        visits.append(PhantomFilm(patient, follow_up, combination, age, female, portable))
    return visits


def _labels_and_view(chance: np.random.Generator, hospital: Hospital) -> tuple[str, bool]:
    """Draw a label combination, and whether the view is AP: the sicker the patient, the likelier a portable film."""
    shares = _cumulative_shares(hospital)
    number = int(np.searchsorted(shares, chance.random() * shares[-1], side="right"))
    combination, films, portable = COMBINATIONS[number]
    return combination, bool(chance.random() < (portable / films) ** hospital.portable_power)


@functools.cache
def _cumulative_shares(hospital: Hospital) -> NDArray[np.float64]:
    factors = [hospital.healthy_factor if combination == NO_FINDING else 1.0 for combination, *_ in COMBINATIONS]
    return np.cumsum(np.array(combination_shares()) * factors)
