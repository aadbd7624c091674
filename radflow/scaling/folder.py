"""The folder in which `scale` keeps what it has measured, from which others predict too."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from radflow.errors import UserError
from radflow.files import atomic_file, read_json
from radflow.scaling.measured import Measurement
from radflow.scaling.model import ScalingModel

MACHINE_FILE = "machine.json"


@dataclass(frozen=True)
class Machine:
    """Where the measurements were made, and what is assumed of what was not measured."""

    slots: int
    """Ranks of a machine."""
    image_size: int
    """Pixels a side."""
    gigabits: float
    """Gbit/s of the network between machines."""
    latency: float
    """Seconds of a message between machines."""

    def model(self, measurements: list[Measurement]) -> ScalingModel:
        """The model that follows from measurements made here."""
        return ScalingModel(measurements, self.slots, self.gigabits, self.latency)


@dataclass(frozen=True)
class KeptScaling:
    """A model of scaling, and the images of which it was measured."""

    model: ScalingModel
    image_size: int

    def images_per_second(
        self, arch: str, local_batch: int, ranks: int, micro_steps: int, image_size: int
    ) -> float | None:
        """Speed of a training; None where steps of this kind were not measured."""
        networks = [measurement.networks.get(arch) for measurement in self.model.measurements]
        measured = all(network and local_batch in {step.local_batch for step in network.steps} for network in networks)
        if not measured or image_size != self.image_size:
            return None
        return self.model.predict(arch, local_batch, ranks, micro_steps).images_per_second


def measurement_file(folder: Path, ranks: int) -> Path:
    """The file of what so many ranks have measured."""
    return folder / f"measured-{ranks}.json"


def write_machine(folder: Path, machine: Machine) -> None:
    """Keep where the measurements of the folder were made."""
    with atomic_file(folder / MACHINE_FILE) as partial:
        partial.write_text(json.dumps(asdict(machine), indent=1), encoding="utf-8")


def read_scaling(folder: Path) -> KeptScaling | None:
    """What `scale` has measured in a folder; None where there is none. Raises UserError where it is damaged."""
    if not (folder / MACHINE_FILE).exists():
        return None
    try:
        machine = Machine(**read_json(folder / MACHINE_FILE))
        measurements = [Measurement.from_json(read_json(file)) for file in sorted(folder.glob("measured-*.json"))]
        return KeptScaling(machine.model(measurements), machine.image_size)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"scaling={folder} is damaged ({error}); measure again with `radflow scale`") from error
