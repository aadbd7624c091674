"""The arithmetic of global batches: which films each rank takes in each micro-step of each step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np

from radflow.errors import UserError


class MicroBatch(NamedTuple):
    """What one rank computes in one micro-step."""

    indices: np.ndarray
    """int64 [local batch]: positions in the training split."""
    weights: np.ndarray
    """float32 [local batch]: 1 for a film that counts, 0 for one that only fills the shape."""


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
        """Films of the largest step: fewer than the global batch where the films do not fill their steps."""
        return -(-self.films // self.steps_per_epoch)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps an epoch: as few as the global batch allows."""
        return -(-self.films // self.global_batch)

    def first_film(self, step: int) -> int:
        """Place in the epoch's order of the first film of a step; films are spread evenly over the steps."""
        return step * self.films // self.steps_per_epoch

    def __str__(self) -> str:
        """The arithmetic as people write it."""
        ranks = "1 rank" if self.ranks == 1 else f"{self.ranks} ranks"
        micro_steps = "1 micro-step" if self.micro_steps == 1 else f"{self.micro_steps} micro-steps"
        return f"GBZ {self.global_batch} = {ranks} x LBZ {self.local_batch} x {micro_steps}"


@dataclass(frozen=True)
class BatchSchedule:
    """The batch plan of each epoch: the full one, after smaller global batches where a training begins with those."""

    full: BatchPlan
    first: tuple[BatchPlan, ...] = ()
    """One an epoch."""

    @property
    def smallest_local_batch(self) -> int:
        """Films that a rank computes at a time, in the epochs where they are fewest."""
        return min(plan.local_batch for plan in (self.full, *self.first))

    @property
    def first_stages(self) -> tuple[tuple[int, int], ...]:
        """Global batch and number of epochs of each stretch of the first ones."""
        stretches = groupby(plan.global_batch for plan in self.first)
        return tuple((batch, len(list(epochs))) for batch, epochs in stretches)

    def of_epoch(self, epoch: int) -> BatchPlan:
        """The plan of an epoch, counted from 0."""
        return self.first[epoch] if epoch < len(self.first) else self.full

    def steps_before(self, epoch: int) -> int:
        """Optimiser steps of all epochs before this one."""
        some = sum(plan.steps_per_epoch for plan in self.first[:epoch])
        return some + max(0, epoch - len(self.first)) * self.full.steps_per_epoch


def plan_batches(global_batch: int, largest_local_batch: int, ranks: int, films: int) -> BatchPlan:
    """Derive LBZ and micro-steps from the global batch, the largest micro-batch of one rank and the number of ranks.

    LBZ is the largest number up to `largest_local_batch` that divides a rank's share of the global batch.

    Raises
    ------
    UserError
        The ranks cannot share the global batch equally; the text names the nearest global batches that they can.
    """
    given = {"global batch": global_batch, "local batch": largest_local_batch, "number of ranks": ranks}
    for name, value in given.items():
        if value < 1:
            raise UserError(f"the {name} must be at least 1, got {value}")
    if films < 1:
        raise UserError("the training split holds no films; give a dataset with training films")
    if global_batch % ranks:
        nearest = " or ".join(map(str, nearest_global_batches(global_batch, ranks)))
        raise UserError(f"gbz={global_batch} is not divisible by {ranks} ranks; the nearest that are: {nearest}")
    share = global_batch // ranks
    local_batch = next(size for size in range(min(share, largest_local_batch), 0, -1) if share % size == 0)
    return BatchPlan(global_batch, ranks, local_batch, share // local_batch, films)


def nearest_global_batches(global_batch: int, unit: int) -> list[int]:
    """The multiples of `unit` next to a global batch, below and above it; below the first there is none."""
    below = global_batch // unit * unit
    return [below, below + unit] if below else [unit]


def epoch_order(films: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of the training films in an epoch, int64 [films]: a function of seed and epoch alone.

    It does not know the number of ranks, so the films of a step do not depend on it.
    """
    return np.random.default_rng([seed, epoch]).permutation(films)


def films_of_step(plan: BatchPlan, order: np.ndarray, step: int) -> np.ndarray:
    """The films of one step, int64 [up to global batch].

    The films of an epoch are spread evenly, so that all steps of an epoch hold the same number, or one more or less. If
    each took a whole global batch, the last would be left with the rest: a few films, at the rate of thousands.
    """
    return order[plan.first_film(step) : plan.first_film(step + 1)]


def micro_batches(plan: BatchPlan, order: np.ndarray, step: int, rank: int) -> Iterator[MicroBatch]:
    """What `rank` computes in `step`: every rank yields the same number of micro-batches.

    A step that holds less than the global batch takes only as many micro-steps as it needs. Empty places repeat films
    of the same step with weight 0, so that batch norm sees real films and the gradient counts nothing twice.
    """
    films = films_of_step(plan, order, step)
    width = plan.ranks * plan.local_batch
    for start in range(0, len(films), width):
        positions = start + rank * plan.local_batch + np.arange(plan.local_batch)
        yield MicroBatch(films[positions % len(films)], (positions < len(films)).astype(np.float32))
