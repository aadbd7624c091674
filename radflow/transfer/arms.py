"""The two arms of a comparison, and what a finished training of one has left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from radflow.evaluation.predictions import Predictions

Arm = Literal["pretrained", "scratch"]
ARMS: tuple[Arm, ...] = ("pretrained", "scratch")


@dataclass(frozen=True)
class Trained:
    """A finished training of a comparison."""

    arm: Arm
    seed: int
    run_id: str
    history: tuple[dict[str, float], ...]
    """Metrics of each epoch; NaN where they were not finite."""
    predictions: Predictions
    """Predictions of the test crops."""
