"""Settings of the tool `scale`."""

from __future__ import annotations

from dataclasses import dataclass

from radflow.cluster.launchers.table import LauncherName
from radflow.errors import UserError
from radflow.models.backbones import ARCHITECTURES, ArchitectureName, check_image_size
from radflow.models.config import Norm
from radflow.optim.config import OptimizerName


@dataclass(frozen=True, kw_only=True)
class ScaleConfig:
    """Measure what steps and sums over ranks take here, and predict training on up to thousands of ranks."""

    out: str = "scaling"
    """Folder for measurements, table and figure."""
    arch: str = "densenet121,vgg16"
    """Networks, separated by commas."""
    image_size: int = 224
    """Pixels a side."""
    lbz: str = "8,16"
    """Local batches, separated by commas."""
    films: int = 86_524
    """Films of an epoch; by default those of ChestX-ray14 for training and validation."""
    largest: int = 4096
    """Most ranks to predict for."""
    hosts: str = ""
    """Machines and their slots, as node1:2,node2:2; empty is this machine, or the nodes of a Slurm allocation."""
    most_measured: int = 0
    """Most ranks to measure with; 0 is as many as the hosts have slots, or as suit the cores of this machine."""
    threads: int = 0
    """Threads of a rank; 0 is an equal share of its machine's cores."""
    launcher: LauncherName = "auto"
    """What starts the ranks; auto is the first that can."""
    ssh_agent: str = ""
    """Command that starts a program on another host, as ssh -p 2222; empty is ssh."""
    interface: str = ""
    """Network interfaces, or addresses as 10.0.0.0/24, by which hosts reach each other; empty is any."""
    network_gbit: float = 10.0
    """Gbit/s between machines, assumed where there is only one to measure on."""
    network_ms: float = 0.05
    """Milliseconds that a message takes between machines, assumed where there is only one to measure on."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for arch in self.networks:
            if arch not in ARCHITECTURES:
                raise UserError(
                    f"arch={self.arch}: {arch} is not a network; expected some of {', '.join(ARCHITECTURES)}"
                )
            check_image_size(arch, self.image_size)
        if not self.lbz.replace(",", "").isdecimal() or 0 in self.local_batches:
            raise UserError(f"lbz={self.lbz} must be local batches of at least 1, as 16,64")
        for name in ("films", "largest"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1")
        if self.most_measured < 0:
            raise UserError(f"most_measured={self.most_measured} must be 0 or positive")
        if not (self.network_gbit > 0 and self.network_ms >= 0):
            raise UserError(
                f"network_gbit={self.network_gbit:g} must be positive, network_ms={self.network_ms:g} 0 or more"
            )

    @property
    def networks(self) -> list[str]:
        """Names of the networks."""
        return self.arch.split(",")

    @property
    def local_batches(self) -> list[int]:
        """Local batches in the order given."""
        return [int(batch) for batch in self.lbz.split(",") if batch]


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """A training step that ranks of this machine measure, to find out how many of them are the fastest."""

    out: str = "step.json"
    """File for what is measured."""
    arch: ArchitectureName = "densenet121"
    norm: Norm = "batch"
    precision: str = "float32"
    optimizer: OptimizerName = "adam"
    image_size: int = 224
    """Pixels a side."""
    lbz: int = 16
    """Local batch."""
    threads: int = 0
    """Threads of a rank; 0 is an equal share of the cores."""
