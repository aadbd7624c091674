"""What a classifier is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from radflow.errors import UserError
from radflow.models.backbones import ARCHITECTURES, ArchitectureName

Norm = Literal["batch", "sync_batch", "group", "instance", "none"]

SMALLEST_BATCH_OF_STATISTICS = 16
"""Films below which the statistics of one rank's micro-batch are too noisy to normalise by (docs/benchmarks.md)."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture, normalisation and initial weights."""

    arch: ArchitectureName = "densenet121"
    """Backbone."""
    norm: Literal["auto"] | Norm = "auto"
    """Normalisation; auto is the architecture's own (none or batch, or instead of batch, where ranks compute fewer than
    16 films at a time, sync_batch, batch normalisation over the films of all ranks)."""
    weights: str = "none"
    """Initial weights of the body: none, imagenet, a .keras model, a .weights.h5 of it, or a model in MLflow, as
    models:/NAME@champion, models:/NAME/2 or runs:/ID/model. Files hold HDF5, which a hostile one can abuse: give only
    files that you trust, and a .keras rather than a .weights.h5, as more of it is checked."""
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    """Number format of the computation; auto is mixed_bfloat16 where the CPU has it."""

    def __post_init__(self) -> None:
        """Refuse normalisations that an architecture has no place for."""
        if not self.is_normalised and self.norm not in ("auto", "none"):
            raise UserError(
                f"norm={self.norm} given for {self.arch}, which has no normalisation layers; leave norm=auto"
            )
        if self.is_normalised and self.norm == "none":
            raise UserError(
                f"norm=none given for {self.arch}, which does not train without; give batch, sync_batch or group"
            )

    @property
    def is_normalised(self) -> bool:
        """Whether the network has normalisation layers."""
        return ARCHITECTURES[self.arch].norm != "none"

    @property
    def norm_of_weights(self) -> Norm:
        """The normalisation that weights must have to fit: batch whether it is over one rank or over all."""
        if self.norm == "auto":
            return ARCHITECTURES[self.arch].norm
        return "batch" if self.norm == "sync_batch" else self.norm

    def chosen_norm(self, local_batch: int, ranks: int) -> Norm:
        """The normalisation that `norm` stands for on so many ranks that each compute `local_batch` films at a time."""
        if ranks == 1:
            return self.norm_of_weights  # its films are those of all ranks
        if self.norm != "auto":
            return self.norm
        too_few = local_batch < SMALLEST_BATCH_OF_STATISTICS
        return "sync_batch" if self.is_normalised and too_few else self.norm_of_weights
