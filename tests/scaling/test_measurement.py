"""What is measured of a step, on a machine that has other work too."""

from __future__ import annotations

import time
from itertools import cycle

import numpy as np

from radflow.cluster.communicator import SerialCommunicator
from radflow.data.batches import Batch
from radflow.scaling.measurement import _measure_step


class DisturbedStep:
    """Takes long in the laps that look at the clock between the parts, and not in those of whole steps."""

    def __init__(self) -> None:
        self._seconds = cycle((0.02, 0.0))

    def accumulate(self, batch: Batch) -> None:
        time.sleep(next(self._seconds))

    def reduce(self, films: int) -> None: ...

    def update(self, learning_rate: float) -> None: ...


def test_a_whole_step_is_no_shorter_than_its_parts() -> None:
    """Or the sum over ranks, which is the rest of it, would take less than no time."""
    batch = Batch(np.zeros((2, 8, 8), np.uint8), np.zeros((2, 3), np.float32), np.ones(2, np.float32))
    step = _measure_step(DisturbedStep(), batch, SerialCommunicator(), seconds=0.0)
    assert step.computing >= 0.02
    assert step.whole >= step.computing + step.updating
