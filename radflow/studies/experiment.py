"""What an experiment is: arms that are trained alike but for a few settings, the claims it tests, and its figures.

Each is one file of radflow/studies/experiments, and a line of the table there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from radflow.studies.outcome import Outcome
    from radflow.studies.verdicts import Evidence

EntryPoint = Literal["train", "distributed", "transfer"]


@dataclass(frozen=True)
class ModelOf:
    """Among the settings of an arm: the model that another arm has trained with the same seed."""

    arm: str


@dataclass(frozen=True)
class ImageNet:
    """Among the settings of an arm: ImageNet's weights, from wherever the user has them."""


@dataclass(frozen=True)
class AtMostRanks:
    """Among the settings of an arm: this many ranks, or where there are fewer slots, the most that divide it."""

    count: int


Settings = Mapping[str, object]
"""Flags of an entry point with their values, some of which say how they are found."""


@dataclass(frozen=True)
class Arm:
    """One way of training, which is repeated with several seeds."""

    name: str
    """As tables and figures show it."""
    settings: Settings = field(default_factory=dict, hash=False)
    """Flags of its entry point in which it differs from the other arms."""
    entry_point: EntryPoint = "distributed"
    rates: tuple[float, ...] = ()
    """Values of base_lr that the first seed tries; that of the highest validation AUC is for all seeds."""
    smallest_films: int = 0
    """Pixels that a side of the films must have for it."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The arms whose models it starts from."""
        return tuple(value.arm for value in self.settings.values() if isinstance(value, ModelOf))


@dataclass(frozen=True)
class Protocol:
    """How an experiment is carried out."""

    arms: tuple[Arm, ...]
    seeds: int
    settings: Settings = field(default_factory=dict)
    """Flags that all arms share."""


@dataclass(frozen=True)
class Experiment:
    """An experiment with what it is to show."""

    title: str
    source: str
    """Section and figures of the paper; of what goes beyond it, where the idea comes from."""
    description: str
    """The docstring of its file."""
    paper: str
    """What the paper's figures show, in words."""
    reduced: Protocol
    """Protocol of scale=sample, of minutes to an hour on two cores, and of scale=data."""
    full: Protocol
    """The paper's own, for scale=paper."""
    judge: Callable[[Outcome], Sequence[Evidence]]
    """Hold the paper's claims against what was found."""
    draw: Callable[[Outcome], Mapping[str, Figure]]
    """Figures by their names."""
    findings: tuple[str, ...] = ()
    """What the films must be labelled for; empty is whatever they are."""
    is_timed: bool = False
    """Whether speeds are what it is about, so that nothing may be trained beside a cell."""
