"""What Muon promises beyond the formulae: directions, the head, and kernels that ranks share."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from optimizer_steps import take_steps, variables_of
from papers_optimizers import adam

from radflow.optim.config import OptimizerConfig
from radflow.optim.factory import build_optimizer
from radflow.optim.muon import Muon, share_out


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(40, 8), (8, 40), (3, 3, 16, 4)])
@pytest.mark.parametrize("scale", [1.0, 1e-12])
def test_an_update_of_muon_moves_all_directions_of_a_kernel_alike(shape, dtype, scale):
    """Between .68 and 1.14 times as far as makes the root mean square of the elements 0.2, as an update of Adam has."""
    generator = np.random.default_rng(2)
    gradient = scale * generator.normal(size=shape) * np.geomspace(1, 30, shape[-1])
    (after,) = take_steps(Muon(0.0, matrix_dtype=dtype), variables_of([np.zeros(shape)]), [[gradient]], [1.0])
    update = -after.reshape(-1, shape[-1])
    values = np.linalg.svd(update, compute_uv=False) / (0.2 * math.sqrt(max(update.shape)))
    assert values.min() > 0.65
    assert values.max() < 1.16


@pytest.mark.parametrize("shape", [(300, 40), (40, 300), (48, 40)])
@pytest.mark.parametrize("smallest", [0.1, 1e-3, 1e-7])
def test_directions_are_those_of_the_iteration_in_float64(shape, smallest):
    """Singular values of a gradient span many orders; the small ones are where rounding shows."""
    generator = np.random.default_rng(5)
    left, _, right = np.linalg.svd(generator.normal(size=shape), full_matrices=False)
    gradient = (left * np.geomspace(1, smallest, min(shape))) @ right
    (after,) = take_steps(Muon(0.0), variables_of([np.zeros(shape)]), [[gradient]], [1.0])
    matrix = gradient / np.linalg.norm(gradient)
    for _ in range(5):
        gram = matrix @ matrix.T
        matrix = (3.4445 * np.eye(len(gram)) - 4.775 * gram + 2.0315 * gram @ gram) @ matrix
    expected = -0.2 * math.sqrt(max(shape)) * matrix
    assert np.linalg.norm(after - expected) < 1e-3 * np.linalg.norm(expected)


def test_muon_leaves_the_head_to_adam():
    """A head that starts at zero has a gradient of few directions, and its rate is that of Adam."""
    generator = np.random.default_rng(4)
    start = [generator.normal(size=(3, 3, 2, 4)), generator.normal(size=(4, 2)), generator.normal(size=2)]
    gradients = [[generator.normal(size=value.shape) for value in start] for _ in range(3)]
    rates = [0.1, 0.2, 0.05]
    for body_lr_factor in (1.0, 0.5):
        weights = variables_of(start)
        config = OptimizerConfig(optimizer="muon", body_lr_factor=body_lr_factor)
        body, *head = take_steps(build_optimizer(config, weights, weights[1:]), weights, gradients, rates)
        for place, value in enumerate(head, start=1):
            expected = adam(start[place], [of_step[place] for of_step in gradients], rates)
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=3e-6)
        assert np.abs(body - adam(start[0], [of_step[0] for of_step in gradients], rates)).max() > 1e-2


class OneOfTwo:
    """One of two ranks in threads, who wait for each other in a sum."""

    size = 2

    def __init__(self, rank: int, tables: list[list[tf.Tensor]], barrier: threading.Barrier) -> None:
        self.rank, self._tables, self._barrier = rank, tables, barrier
        self.computed = 0

    def allreduce_sum(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        (directions,) = tensors
        self.computed += int(tf.math.count_nonzero(directions))
        self._tables[self.rank] = tensors
        self._barrier.wait(60)
        sums = [first + second for first, second in zip(*self._tables, strict=True)]
        self._barrier.wait(60)
        return sums


def test_two_ranks_of_muon_share_the_kernels_and_move_as_one_alone():
    generator = np.random.default_rng(6)
    start = [generator.normal(size=shape) for shape in [(3, 3, 4, 8), (8,), (8, 8), (8, 2), (1, 1, 8, 4), (8, 8)]]
    gradients = [[generator.normal(size=value.shape) for value in start] for _ in range(3)]
    tables: list[list[tf.Tensor]] = [[], []]
    barrier = threading.Barrier(2)
    ranks = [OneOfTwo(rank, tables, barrier) for rank in range(2)]

    def train(rank: OneOfTwo | None) -> list[np.ndarray]:
        weights, optimizer = variables_of(start), Muon(0.1, ranks=rank)
        optimizer.build(weights)
        for of_step in gradients:  # no graph, in which threads would not wait
            optimizer.apply([tf.constant(gradient, tf.float32) for gradient in of_step], weights)
        return [weight.numpy() for weight in weights]

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(train, ranks))
    for both in zip(*together, train(None), strict=True):
        np.testing.assert_array_equal(both[0], both[1])
        np.testing.assert_array_equal(both[0], both[2])
    # The first kernel, of 288 elements, is more work than the others together.
    assert [rank.computed for rank in ranks] == [3 * 288, 3 * (64 + 16 + 32 + 64)]


@given(st.lists(st.tuples(st.integers(1, 600), st.integers(1, 600)), max_size=40), st.integers(1, 9))
def test_kernels_are_shared_out_evenly(matrices, ranks):
    """Nobody has more than an even share and one kernel."""
    owners = share_out(matrices, ranks)
    work = [min(shape) * math.prod(shape) for shape in matrices]
    loads = [sum(load for load, owner in zip(work, owners, strict=True) if owner == rank) for rank in range(ranks)]
    assert max(loads) <= sum(work) / ranks + max(work, default=0)
    assert owners == share_out(matrices, ranks)
