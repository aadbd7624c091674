"""Settings of a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from radflow.cluster.launchers.table import LauncherName
from radflow.errors import UserError
from radflow.models.backbones import ARCHITECTURES, ArchitectureName
from radflow.studies.experiments.table import ExperimentName
from radflow.training.config import Ranks

Scale = Literal["sample", "data", "paper"]


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Repeat an experiment of the paper, or one beyond it, and judge the claims that were made of it."""

    name: ExperimentName = "batch-size"
    """Which experiment; docs/studies.md tells of each."""
    scale: Scale = "sample"
    """How large: sample is phantom films, in an hour at most; data the same on yours; paper the full protocol."""
    data: str = "auto"
    """Dataset of chest films made by `preprocess`; auto is phantom films, for scale=sample alone."""
    mammograms: str = "sample"
    """Dataset of crops of mammograms made by `preprocess`, for name=transfer; sample is phantom ones."""
    arch: ArchitectureName = "densenet121"
    """Network of the trainings that do not name one."""
    imagenet: str = ""
    """Files of ImageNet's weights, as vgg16=A.weights.h5,resnet50=B.weights.h5; others are Keras' download."""
    out: str = "studies"
    """Folder of the trainings, which all studies share, and of the reports."""
    seeds: int = 0
    """Seeds of each cell, counted from 0; 0 is as many as the experiment has at this scale."""
    epochs: int = 0
    """Epochs of each training; 0 is as many as the experiment has at this scale."""
    workers: int = 1
    """Trainings at a time on this machine, each on an equal share of the cores; speeds are measured one at a time."""
    np: Ranks = "auto"
    """Ranks of a training that does not say itself."""
    hosts: str = ""
    """Machines and their slots, as node1:2,node2:2; empty is this machine."""
    launcher: LauncherName = "auto"
    """What starts the ranks."""
    scaling: str = "scaling"
    """Folder of what `radflow scale` has measured, from which the plan predicts hours."""
    config: str = ""
    """YAML file of these parameters; a parameter given with another value than its default wins over the file."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.scale != "sample" and self.data == "auto":
            raise UserError(f"scale={self.scale} needs your films; give data=FOLDER, a dataset made by `preprocess`")
        for name in ("seeds", "epochs"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}={getattr(self, name)} must be 0 (the experiment's own) or positive")
        self.imagenet_files  # noqa: B018 - raises what is wrong with them
        if self.workers < 1:
            raise UserError(f"workers={self.workers} must be at least 1")
        if self.workers > 1 and self.hosts:
            raise UserError(
                f"workers={self.workers} trainings at a time would share hosts={self.hosts}; give workers=1"
            )

    @property
    def imagenet_files(self) -> dict[str, str]:
        """Files of ImageNet's weights by network."""
        files = {}
        for pair in filter(None, self.imagenet.split(",")):
            arch, _, file = pair.partition("=")
            if arch not in ARCHITECTURES or not file:
                raise UserError(
                    f"imagenet={self.imagenet}: {pair} is not NETWORK=FILE with one of {', '.join(ARCHITECTURES)}"
                )
            files[arch] = file
        return files
