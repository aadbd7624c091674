"""Learning-rate scaling and schedules, as functions of the epoch alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import get_args

from radflow.optim.config import OptimizerConfig, Scaling, ScheduleName

PLATEAU_PATIENCE = 2
"""Epochs without a better validation loss before the rate falls."""
STEP_EPOCH = 50
"""Epoch from which the paper's schedule multiplies the rate by 0.1 each epoch (section III-C)."""
DECAY = 0.1


def scale_learning_rate(base_lr: float, base_batch: int, scaling: Scaling, global_batch: int) -> float:
    """Learning rate of a global batch, from that of a batch of `base_batch` films.

    `linear` doubles the rate with the batch (paper, section III-A.1; Goyal et al. 2017, arXiv:1706.02677), which keeps
    the sum of SGD's updates over an epoch. `sqrt` doubles it with four times the batch, which keeps the noise in the
    updates of Adam and its kin (Malladi et al. 2022, arXiv:2205.10287). `none` leaves it as it is.
    """
    ratio = global_batch / base_batch
    return base_lr * {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[scaling]


@dataclass
class LearningRate:
    """The learning rate of each step.

    Its only state is what reduction on a plateau has seen; every other schedule is a pure function of the epoch.
    """

    peak: float
    warmup_epochs: float
    epochs: int
    schedule: ScheduleName
    cycles: int = OptimizerConfig.cycles
    first_factors: tuple[float, ...] = ()
    """Factors on the rate in the first epochs, one each, where these have smaller global batches."""
    best_loss: float = math.inf
    stalled_epochs: int = 0
    observed_epochs: int = 0
    reduced_after: list[int] = field(default_factory=list)
    """Epochs after whose validation the plateau schedule lowered the rate."""

    def at(self, epoch: float) -> float:
        """The rate at a point of training in epochs, fractions included: 0.5 is halfway through the first epoch."""
        peak = self.peak * (self.first_factors[int(epoch)] if epoch < len(self.first_factors) else 1.0)
        if epoch < self.warmup_epochs:
            return peak * epoch / self.warmup_epochs
        return peak * self._decay(epoch)

    def ends_cycle(self, epochs: int) -> bool:
        """Whether a cycle of the cyclic schedule ends after so many epochs, at a rate of zero."""
        if self.schedule != "cyclic" or epochs <= self.warmup_epochs:
            return False
        finished = (epochs - self.warmup_epochs) * self.cycles / (self.epochs - self.warmup_epochs)
        return math.isclose(finished, round(finished), abs_tol=1e-9)

    def observe(self, validation_loss: float) -> None:
        """Tell the schedule of each epoch's validation loss; `plateau` lowers the rate after two without gain.

        NaN is no gain.
        """
        self.observed_epochs += 1
        if validation_loss < self.best_loss:
            self.best_loss, self.stalled_epochs = validation_loss, 0
            return
        self.stalled_epochs += 1
        if self.stalled_epochs >= PLATEAU_PATIENCE:
            self.reduced_after.append(self.observed_epochs)
            self.stalled_epochs = 0

    def _decay(self, epoch: float) -> float:
        """Factor on the peak after warm-up, in [0, 1]."""
        progress = min(1.0, (epoch - self.warmup_epochs) / max(self.epochs - self.warmup_epochs, 1e-9))
        match self.schedule:
            case "constant":
                return 1.0
            case "cosine":  # Loshchilov & Hutter 2017, arXiv:1608.03983, one cycle
                return _cosine(progress)
            case "cyclic":  # Huang et al. 2017, arXiv:1704.00109, equation 2; training ends at a cycle's end
                finished = min(math.floor(progress * self.cycles), self.cycles - 1)
                return _cosine(progress * self.cycles - finished)
            case "polynomial":  # power 2, as in You et al. 2017, arXiv:1708.03888
                return (1 - progress) ** 2
            case "step":
                return DECAY ** max(0, math.floor(epoch) - STEP_EPOCH + 1)
            case "plateau":
                return DECAY ** sum(epoch >= reduced for reduced in self.reduced_after)
        raise ValueError(f"schedule={self.schedule!r} is not known; expected one of {get_args(ScheduleName)}")


def _cosine(progress: float) -> float:
    """Half a cosine from 1 to 0 as progress goes from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))
