"""The arithmetic of global batches: which films each rank takes in each micro-step of each step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from radflow.errors import UserError


class MicroBatch(NamedTuple):
    """What one rank computes in one micro-step."""

    indices: np.ndarray
    """int64 [local batch]: positions in the training split."""
    weights: np.ndarray
    """float32 [local batch]: 1 for a film that counts, 0 for one that only fills the shape of a short last batch."""


@dataclass(frozen=True)
class BatchPlan:
    """GBZ = ranks x LBZ x micro-steps (paper, section III-B), and what follows from it for a training set."""

    global_batch: int
    ranks: int
    local_batch: int
    micro_steps: int
    films: int
    """Films of the training split."""

    @property
    def effective_global_batch(self) -> int:
        """Films that a full step really sees: less than the global batch where the whole set is smaller."""
        return min(self.global_batch, self.films)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps an epoch; the last may be short."""
        return -(-self.films // self.global_batch)

    def __str__(self) -> str:
        """The arithmetic as people write it."""
        ranks = "1 rank" if self.ranks == 1 else f"{self.ranks} ranks"
        micro_steps = "1 micro-step" if self.micro_steps == 1 else f"{self.micro_steps} micro-steps"
        return f"GBZ {self.global_batch} = {ranks} x LBZ {self.local_batch} x {micro_steps}"


def divides(global_batch: int, largest_local_batch: int, ranks: int) -> bool:
    """Whether the global batch is a whole number of equal micro-batches of all ranks."""
    return global_batch % _unit(global_batch, largest_local_batch, ranks) == 0


def _unit(global_batch: int, largest_local_batch: int, ranks: int) -> int:
    """What the global batch must be a multiple of."""
    return ranks if global_batch <= ranks * largest_local_batch else ranks * largest_local_batch


def plan_batches(global_batch: int, largest_local_batch: int, ranks: int, films: int) -> BatchPlan:
    """Derive LBZ and micro-steps from the global batch, the largest micro-batch of one rank and the number of ranks.

    Raises
    ------
    UserError
        The global batch is not a whole number of micro-batches; the text names the nearest that are.
    """
    given = {"global batch": global_batch, "local batch": largest_local_batch, "number of ranks": ranks}
    for name, value in given.items():
        if value < 1:
            raise UserError(f"the {name} must be at least 1, got {value}")
    if films < 1:
        raise UserError("the training split holds no films; give a data set with training films")
    if not divides(global_batch, largest_local_batch, ranks):
        unit = _unit(global_batch, largest_local_batch, ranks)
        below, above = global_batch // unit * unit, -(-global_batch // unit) * unit
        nearest = f"{below} or {above}" if below else str(above)
        raise UserError(
            f"gbz={global_batch} does not divide into {ranks} ranks x lbz={largest_local_batch}; "
            f"the nearest global batches that do are {nearest}"
        )
    local_batch = min(global_batch // ranks, largest_local_batch)
    return BatchPlan(global_batch, ranks, local_batch, global_batch // (ranks * local_batch), films)


def epoch_order(films: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of the training films in an epoch, int64 [films]: a function of seed and epoch alone.

    It does not know the number of ranks, so the films of a step do not depend on it.
    """
    return np.random.default_rng([seed, epoch]).permutation(films)


def films_of_step(plan: BatchPlan, order: np.ndarray, step: int) -> np.ndarray:
    """The films of one global batch, int64 [up to global batch]."""
    return order[step * plan.global_batch : (step + 1) * plan.global_batch]


def micro_batches(plan: BatchPlan, order: np.ndarray, step: int, rank: int) -> Iterator[MicroBatch]:
    """What `rank` computes in `step`: every rank yields the same number of micro-batches.

    A short last step takes only as many micro-steps as it needs. Its empty places repeat films of the same step
    with weight 0, so that batch norm sees real films and the gradient counts nothing twice.
    """
    films = films_of_step(plan, order, step)
    width = plan.ranks * plan.local_batch
    for start in range(0, len(films), width):
        positions = start + rank * plan.local_batch + np.arange(plan.local_batch)
        yield MicroBatch(films[positions % len(films)], (positions < len(films)).astype(np.float32))
