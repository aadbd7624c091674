"""What a classifier is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from radflow.errors import UserError

Architecture = Literal["densenet121", "vgg16", "resnet50"]
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)

NORMALISED_ARCHITECTURES = ("densenet121", "resnet50")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture, normalisation and initial weights."""

    arch: Architecture = "densenet121"
    """Backbone."""
    norm: Literal["auto", "batch", "sync_batch", "group", "instance", "none"] = "auto"
    """Normalisation; auto is the architecture's own (batch, none for vgg16), sync_batch is batch over all ranks."""
    weights: str = "none"
    """Initial weights of the body: none, imagenet, a .weights.h5 of it, a .keras model, or a model in MLflow, as
    models:/NAME@champion, models:/NAME/2 or runs:/ID/model."""
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    """Number format of the computation; auto is mixed_bfloat16 where the CPU has it."""

    def __post_init__(self) -> None:
        """Refuse normalisations that an architecture has no place for."""
        if self.arch == "vgg16" and self.norm not in ("auto", "none"):
            raise UserError(f"norm={self.norm} given for vgg16, which has no normalisation layers; leave norm=auto")
        if self.arch in NORMALISED_ARCHITECTURES and self.norm == "none":
            raise UserError(
                f"norm=none given for {self.arch}, which does not train without; give batch, sync_batch or group"
            )

    @property
    def chosen_norm(self) -> str:
        """The normalisation that `norm` stands for: auto is what the architecture was published with."""
        if self.norm != "auto":
            return self.norm
        return "batch" if self.arch in NORMALISED_ARCHITECTURES else "none"
