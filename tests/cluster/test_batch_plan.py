from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radflow.cluster.batch_plan import BatchPlan, BatchSchedule, epoch_order, films_of_step, micro_batches, plan_batches
from radflow.errors import UserError

plans = st.builds(
    lambda ranks, local, micro, films: BatchPlan(ranks * local * micro, ranks, local, micro, films),
    ranks=st.integers(1, 6),
    local=st.integers(1, 5),
    micro=st.integers(1, 4),
    films=st.integers(1, 150),
)


def test_the_papers_configuration():
    """Section III-B: GBZ=512 with LBZ=4 took 128 processes."""
    plan = plan_batches(512, 4, 128, films=86_524)
    assert (plan.local_batch, plan.micro_steps, plan.steps_per_epoch) == (4, 1, 169)


def test_a_laptop_takes_the_same_global_batch_in_micro_steps():
    plan = plan_batches(4096, 16, 2, films=78_000)
    assert (plan.local_batch, plan.micro_steps, plan.global_batch) == (16, 128, 4096)
    assert str(plan) == "GBZ 4096 = 2 ranks x LBZ 16 x 128 micro-steps"


def test_a_small_global_batch_lowers_the_local_batch():
    assert plan_batches(8, 16, 2, films=100).local_batch == 4
    assert str(plan_batches(8, 16, 1, films=100)) == "GBZ 8 = 1 rank x LBZ 8 x 1 micro-step"


def test_a_set_smaller_than_the_global_batch_is_one_short_step():
    plan = plan_batches(4096, 16, 2, films=1000)
    assert (plan.effective_global_batch, plan.steps_per_epoch) == (1000, 1)


def test_the_local_batch_is_the_largest_that_divides():
    assert str(plan_batches(448, 64, 2, films=8237)) == "GBZ 448 = 2 ranks x LBZ 56 x 4 micro-steps"
    assert str(plan_batches(33, 16, 1, films=1000)) == "GBZ 33 = 1 rank x LBZ 11 x 3 micro-steps"


@pytest.mark.parametrize(("gbz", "ranks", "nearest"), [(101, 2, "100 or 102"), (7, 4, "4 or 8"), (3, 4, "4")])
def test_a_global_batch_that_ranks_cannot_share_names_the_nearest_that_they_can(gbz, ranks, nearest):
    with pytest.raises(UserError, match=f"gbz={gbz} .* {nearest}$"):
        plan_batches(gbz, 16, ranks, films=1000)
    for value in re.findall(r"\d+", nearest):
        assert plan_batches(int(value), 16, ranks, films=1000).global_batch == int(value)


@pytest.mark.parametrize("arguments", [(0, 16, 2, 10), (16, 0, 2, 10), (16, 16, 0, 10), (16, 16, 2, 0)])
def test_nothing_below_one_is_planned(arguments):
    with pytest.raises(UserError):
        plan_batches(*arguments)


@given(plans, st.integers(0, 9), st.integers(0, 9))
def test_every_film_counts_once_an_epoch_whatever_the_ranks(plan, seed, epoch):
    order = epoch_order(plan.films, seed, epoch)
    counted = np.zeros(plan.films)
    for step in range(plan.steps_per_epoch):
        for rank in range(plan.ranks):
            for batch in micro_batches(plan, order, step, rank):
                np.add.at(counted, batch.indices, batch.weights)
    np.testing.assert_array_equal(counted, 1)


@given(plans, st.integers(0, 9))
def test_a_step_holds_the_same_films_as_one_rank_with_the_whole_batch(plan, seed):
    order = epoch_order(plan.films, seed, 0)
    single = BatchPlan(plan.global_batch, 1, plan.global_batch, 1, plan.films)
    for step in range(plan.steps_per_epoch):
        spread = [
            film
            for rank in range(plan.ranks)
            for batch in micro_batches(plan, order, step, rank)
            for film in batch.indices[batch.weights == 1]
        ]
        (whole,) = micro_batches(single, order, step, 0)
        assert sorted(spread) == sorted(whole.indices[whole.weights == 1]) == sorted(films_of_step(plan, order, step))


@given(plans)
def test_the_films_are_spread_evenly_over_the_steps(plan):
    order = epoch_order(plan.films, 0, 0)
    sizes = [len(films_of_step(plan, order, step)) for step in range(plan.steps_per_epoch)]
    assert sum(sizes) == plan.films
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) == plan.effective_global_batch <= plan.global_batch
    assert plan.steps_per_epoch == math.ceil(plan.films / plan.global_batch)


def test_no_step_is_left_with_the_few_films_that_global_batches_leave_over():
    plan = plan_batches(4096, 16, 2, films=8237)
    order = epoch_order(plan.films, 0, 0)
    assert [len(films_of_step(plan, order, step)) for step in range(3)] == [2745, 2746, 2746]


@given(plans)
def test_all_ranks_take_the_same_number_of_micro_steps_of_full_shape(plan):
    order = epoch_order(plan.films, 0, 0)
    for step in range(plan.steps_per_epoch):
        per_rank = [micro_batches(plan, order, step, rank) for rank in range(plan.ranks)]
        shapes = [[batch.indices.shape for batch in batches] for batches in per_rank]
        assert all(rank_shapes == shapes[0] for rank_shapes in shapes)
        assert set(shapes[0]) == {(plan.local_batch,)}
        assert len(shapes[0]) <= plan.micro_steps


def test_the_order_is_a_function_of_seed_and_epoch():
    np.testing.assert_array_equal(epoch_order(50, 1, 2), epoch_order(50, 1, 2))
    assert (epoch_order(50, 1, 2) != epoch_order(50, 1, 3)).any()
    assert (epoch_order(50, 1, 2) != epoch_order(50, 2, 2)).any()


@given(plans, st.lists(st.integers(1, 30), max_size=4), st.integers(0, 8))
def test_the_steps_before_an_epoch_are_those_of_the_epochs_before_it(full, smaller, epoch):
    first = tuple(BatchPlan(batch, 1, batch, 1, full.films) for batch in smaller)
    schedule = BatchSchedule(full, first)
    assert schedule.steps_before(epoch) == sum(schedule.of_epoch(each).steps_per_epoch for each in range(epoch))
    assert [schedule.of_epoch(each) for each in range(6)] == [*first, *([full] * 6)][:6]
