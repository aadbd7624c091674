"""What ranks have measured, as it is kept in a file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class MeasuredSum:
    """A sum over ranks."""

    bytes: int
    seconds: float


@dataclass(frozen=True)
class MeasuredStep:
    """A step of a network with one local batch a rank."""

    local_batch: int
    computing: float
    """Seconds until the slowest rank has its gradients."""
    updating: float
    """Seconds of the optimiser's update."""
    whole: float
    """Seconds of the step with the sum over ranks and the update."""


@dataclass(frozen=True)
class MeasuredNetwork:
    """What the steps of a network cost."""

    gradient_bytes: int
    summing_as_float16: float
    """Seconds of the sum of the gradients if they are sent as float16, with the conversions."""
    steps: tuple[MeasuredStep, ...]


@dataclass(frozen=True)
class Measurement:
    """What a number of ranks has measured."""

    hosts: tuple[str, ...]
    """The host of each rank."""
    sums: tuple[MeasuredSum, ...]
    networks: dict[str, MeasuredNetwork]
    """By the name of the network."""

    @property
    def ranks(self) -> int:
        """How many they were."""
        return len(self.hosts)

    @property
    def machines(self) -> int:
        """On how many machines."""
        return len(set(self.hosts))

    def to_json(self) -> dict[str, Any]:
        """The content of the file that keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Measurement:
        """What `to_json` gave."""
        networks = {
            name: MeasuredNetwork(**{**network, "steps": tuple(MeasuredStep(**step) for step in network["steps"])})
            for name, network in content["networks"].items()
        }
        return cls(tuple(content["hosts"]), tuple(MeasuredSum(**each) for each in content["sums"]), networks)
