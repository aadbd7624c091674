"""Settings of `transfer`: those of a training, with the paper's protocol as defaults, and where the body comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from cyclopts import Parameter

from radflow.config import flatten, make
from radflow.errors import UserError
from radflow.optim.config import OptimizerConfig, ScheduleName
from radflow.training.config import DistributedConfig, Ranks

COMPARE = "compare"
CHAMPION = "models:/radflow-chest-densenet121@champion"
_OWN = ("source", "pretrained", "seeds", "target_auc")
"""Parameters that trainings do not have."""


@dataclass(frozen=True, kw_only=True)
class TransferOptimizerConfig(OptimizerConfig):
    """The paper's schedule: the rate is reduced when the validation loss stalls (section IV)."""

    schedule: ScheduleName = "plateau"


@dataclass(frozen=True, kw_only=True)
class TransferConfig(DistributedConfig):
    """Train tumour against normal tissue on mammograms, on a body that has learned from other films."""

    source: str = CHAMPION
    """What the body starts from, as `weights` of train takes it; or compare: with `pretrained` and from scratch."""
    pretrained: str = CHAMPION
    """What the pre-trained half of a comparison starts from."""
    seeds: int = 3
    """Seeds of a comparison, counted from `seed`: as many trainings of each half."""
    target_auc: float = 0.0
    """Validation AUC up to which a comparison counts epochs; 0 is the best that every training reaches."""
    epochs: int = 10
    """Passes over the training films."""
    optim: Annotated[TransferOptimizerConfig, Parameter(name="*")] = field(default_factory=TransferOptimizerConfig)
    gbz: int = 16
    """Global batch: crops of one optimiser step over all ranks and micro-steps; the paper's 4 ranks take 64."""
    np: Ranks = 1
    """Number of ranks; 1 trains in this process, auto fits them to the cores or fills the slots of hosts."""

    def __post_init__(self) -> None:
        """Check ranges, and that the body's origin is given once."""
        if self.model.weights != "none":
            raise UserError(f"weights={self.model.weights}: transfer takes them as source={self.model.weights}")
        if self.seeds < 1:
            raise UserError(f"seeds={self.seeds} must be at least 1")
        if not 0 <= self.target_auc < 1:
            raise UserError(f"target_auc={self.target_auc} must be 0 (what every training reaches) or below 1")
        if self.compares and self.pretrained in ("none", COMPARE):
            raise UserError(f"pretrained={self.pretrained} leaves nothing to compare; give a model or weights")
        if self.compares and self.resume != "none":
            raise UserError(f"resume={self.resume} is for one training; the same comparison goes on by itself")
        super().__post_init__()

    @property
    def compares(self) -> bool:
        """Whether both halves are trained."""
        return self.source == COMPARE

    @property
    def is_one_process(self) -> bool:
        """Whether it trains without ranks."""
        return self.np == 1 and not self.hosts

    @property
    def initial_weights(self) -> str:
        """What the body starts from; in a comparison, that of its pre-trained half."""
        return self.pretrained if self.compares else self.source

    def training(self, data: str) -> DistributedConfig:
        """The training that this is, of a source that is not compare, on the dataset in the folder `data`."""
        settings = {name: value for name, value in flatten(self).items() if name not in _OWN}
        return make(DistributedConfig, {**settings, "weights": self.source, "data": data, "config": ""})
