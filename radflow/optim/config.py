"""How weights are updated and how fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from radflow.errors import UserError


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Optimiser, scaled learning rate and its schedule."""

    optimizer: Literal["adam", "adadelta", "sgd"] = "adam"
    """Update rule; sgd has momentum 0.9."""
    base_lr: float = 0.0005
    """Learning rate at the base batch; the peak is base_lr x global batch / base_batch."""
    base_batch: int = 8
    """Batch size that base_lr belongs to; 0 takes base_lr as it is, whatever the batch."""
    warmup_epochs: float = 1.0
    """Epochs over which the learning rate climbs from near zero to its peak; fractions are allowed."""
    schedule: Literal["constant", "cosine", "polynomial", "step", "plateau"] = "cosine"
    """After warm-up; step is the paper's x0.1 an epoch from epoch 50, plateau x0.1 when validation loss stalls."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 < self.base_lr < float("inf"):
            raise UserError(f"base_lr={self.base_lr} must be a positive number")
        if self.base_batch < 0:
            raise UserError(f"base_batch={self.base_batch} must be positive, or 0 to use base_lr without scaling")
        if not 0 <= self.warmup_epochs < float("inf"):
            raise UserError(f"warmup_epochs={self.warmup_epochs} must be 0 or positive")
