from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import get_args

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radflow.errors import UserError
from radflow.optim.config import OptimizerConfig, ScheduleName
from radflow.optim.learning_rate import LearningRate, scale_learning_rate
from radflow.training.config import TrainConfig


@pytest.mark.parametrize(("batch", "rate"), [(8, 0.0005), (16, 0.001), (256, 0.016), (4096, 0.256)])
def test_linear_scaling_doubles_with_the_batch(batch, rate):
    """Section III-A.1: base learning rate 0.0005 at batch 8, doubled each time the batch is."""
    assert scale_learning_rate(0.0005, 8, "linear", batch) == pytest.approx(rate)


def test_the_mammogram_protocol():
    """Section IV: 0.001 at batch 16 becomes 0.004 at GBZ 64."""
    assert scale_learning_rate(0.001, 16, "linear", 64) == pytest.approx(0.004)


@pytest.mark.parametrize(("batch", "rate"), [(8, 0.0005), (32, 0.001), (512, 0.004), (3200, 0.01)])
def test_square_root_scaling_doubles_with_four_times_the_batch(batch, rate):
    assert scale_learning_rate(0.0005, 8, "sqrt", batch) == pytest.approx(rate)


def test_a_rate_that_is_not_scaled_stays():
    assert scale_learning_rate(0.01, 8, "none", 4096) == 0.01


SCHEDULES = get_args(ScheduleName)


@given(st.sampled_from(SCHEDULES), st.integers(1, 9), st.lists(st.floats(0, 2), max_size=60), st.floats(0, 60))
def test_no_schedule_leaves_zero_to_peak(schedule, cycles, losses, epoch):
    rate = LearningRate(peak=0.5, warmup_epochs=5, epochs=60, schedule=schedule, cycles=cycles)
    for loss in losses:
        rate.observe(loss)
    assert 0 <= rate.at(epoch) <= 0.5


@given(st.sampled_from(SCHEDULES), st.floats(0.1, 9), st.floats(0, 1), st.floats(0, 1))
def test_warm_up_is_a_straight_line_that_ends_at_the_peak(schedule, warmup_epochs, earlier, later):
    rate = LearningRate(peak=0.5, warmup_epochs=warmup_epochs, epochs=20, schedule=schedule)
    climbed = rate.at(later * warmup_epochs) - rate.at(earlier * warmup_epochs)
    assert climbed == pytest.approx(0.5 * (later - earlier), abs=1e-9)
    assert rate.at(0) == 0
    assert rate.at(warmup_epochs) == 0.5


@given(st.sampled_from(["constant", "cosine", "polynomial", "step", "plateau"]), st.floats(5, 60), st.floats(5, 60))
def test_after_warm_up_only_the_cyclic_schedule_rises(schedule, one, other):
    rate = LearningRate(peak=0.5, warmup_epochs=5, epochs=60, schedule=schedule, reduced_after=[7, 30])
    assert rate.at(min(one, other)) >= rate.at(max(one, other))


def test_epochs_of_smaller_batches_have_their_share_of_the_rate():
    rate = LearningRate(peak=0.4, warmup_epochs=0, epochs=5, schedule="constant", first_factors=(0.25, 0.5))
    assert [rate.at(epoch) for epoch in (0, 0.9, 1, 1.9, 2, 4)] == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.4, 0.4])


def test_the_papers_vgg_schedule():
    """Section III-C: five epochs of warm-up to 0.5, then x0.1 an epoch from epoch 50."""
    rate = LearningRate(peak=0.5, warmup_epochs=5, epochs=60, schedule="step")
    assert [rate.at(epoch) for epoch in (2.5, 5, 49.9)] == pytest.approx([0.25, 0.5, 0.5])
    assert [rate.at(epoch) for epoch in (50, 51.5, 52)] == pytest.approx([0.05, 0.005, 0.0005])


def test_cosine_equals_keras_own():
    reference = keras.optimizers.schedules.CosineDecay(0.3, decay_steps=1000)
    rate = LearningRate(peak=0.3, warmup_epochs=0, epochs=10, schedule="cosine")
    for step in (0, 1, 250, 500, 999, 1000):
        assert rate.at(step / 100) == pytest.approx(float(reference(step)), abs=1e-7)


def test_cyclic_equals_keras_cosine_with_restarts():
    reference = keras.optimizers.schedules.CosineDecayRestarts(0.3, first_decay_steps=250, t_mul=1.0)
    rate = LearningRate(peak=0.3, warmup_epochs=0, epochs=10, schedule="cyclic", cycles=4)
    for step in (0, 1, 125, 249, 250, 251, 500, 600, 749, 750, 999):
        assert rate.at(step / 100) == pytest.approx(float(reference(step)), abs=1e-6)


def test_cyclic_restarts_at_the_peak_after_each_cycle_and_ends_at_zero():
    """One epoch of warm-up, then four cycles of two epochs."""
    rate = LearningRate(peak=1.0, warmup_epochs=1, epochs=9, schedule="cyclic", cycles=4)
    assert [rate.at(epoch) for epoch in (1, 3, 5, 7)] == pytest.approx([1, 1, 1, 1])
    assert [rate.at(epoch) for epoch in (1.5, 2, 2.5)] == pytest.approx([0.853553, 0.5, 0.146447], abs=1e-6)
    assert [rate.at(epoch) for epoch in (2.9999, 4.9999, 6.9999, 9)] == pytest.approx([0, 0, 0, 0], abs=1e-6)


@given(st.floats(1, 9))
def test_one_cycle_is_cosine(epoch):
    cyclic, cosine = (
        LearningRate(peak=1.0, warmup_epochs=1, epochs=9, schedule=schedule, cycles=1)
        for schedule in ("cyclic", "cosine")
    )
    assert cyclic.at(epoch) == cosine.at(epoch)


def test_polynomial_has_power_two():
    """Half of the way after warm-up leaves a quarter, nine tenths leave a hundredth."""
    rate = LearningRate(peak=2.0, warmup_epochs=2, epochs=12, schedule="polynomial")
    assert [rate.at(epoch) for epoch in (2, 7, 11, 12)] == pytest.approx([2, 0.5, 0.02, 0])


def test_constant_stays():
    rate = LearningRate(peak=0.3, warmup_epochs=2, epochs=12, schedule="constant")
    assert [rate.at(epoch) for epoch in (1, 2, 11.9)] == pytest.approx([0.15, 0.3, 0.3])


def test_an_unknown_schedule_is_never_a_silent_constant():
    with pytest.raises(ValueError, match="onecycle"):
        LearningRate(peak=1.0, warmup_epochs=0, epochs=9, schedule="onecycle").at(1)


def test_plateau_falls_after_two_epochs_without_gain_and_only_then():
    rate = LearningRate(peak=1.0, warmup_epochs=0, epochs=99, schedule="plateau")
    losses = (1.0, 0.9, 0.95, 0.8, 0.81, 0.82, 0.83, 0.84, math.nan, math.nan)
    seen = []
    for epoch, loss in enumerate(losses, start=1):
        rate.observe(loss)
        seen.append(rate.at(epoch))
    assert seen == pytest.approx([1, 1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.001])
    # What was is not rewritten: a drawing after training shows the rates that were used.
    assert [rate.at(epoch + 0.99) for epoch in range(1, 10)] == pytest.approx(seen[:-1])


def test_a_schedule_goes_on_from_what_a_checkpoint_holds():
    rate = LearningRate(peak=1.0, warmup_epochs=0, epochs=99, schedule="plateau")
    for loss in (1.0, 2.0, 2.0, 2.0):
        rate.observe(loss)
    again = LearningRate(**json.loads(json.dumps(asdict(rate))))
    for schedule in (rate, again):
        schedule.observe(2.0)
        assert [schedule.at(epoch) for epoch in (2.9, 3, 5)] == pytest.approx([1, 0.1, 0.01])


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_lr": 0},
        {"base_lr": math.inf},
        {"base_batch": 0},
        {"base_batch": -1},
        {"warmup_epochs": -1},
        {"cycles": 0},
        {"ema": 1.0},
        {"ema": -0.1},
    ],
)
def test_values_outside_their_range_are_named(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        OptimizerConfig(**wrong)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"base_batch": 16}, "base_batch=16 has no effect with base_lr=auto"),
        ({"base_lr": 0.1, "base_batch": 16, "lr_scaling": "none"}, "base_batch=16 has no effect with lr_scaling=none"),
        ({"momentum": 0.5}, "momentum=0.5 has no effect with optimizer=auto"),
    ],
)
def test_what_contradicts_auto_is_refused(told, words):
    with pytest.raises(UserError, match=words):
        OptimizerConfig(**told)


def test_cycles_without_the_cyclic_schedule_are_refused():
    with pytest.raises(UserError, match="cycles=6 has no effect with schedule=cosine"):
        OptimizerConfig(cycles=6)
    assert OptimizerConfig(cycles=6, schedule="cyclic").cycles == 6


def test_a_cycle_has_at_least_one_epoch():
    cyclic = OptimizerConfig(schedule="cyclic", cycles=4, warmup_epochs=1.5)
    assert TrainConfig(epochs=6, optim=cyclic).epochs == 6
    with pytest.raises(UserError, match=r"cycles=4 .* epochs=5 .* warmup_epochs=1.5"):
        TrainConfig(epochs=5, optim=cyclic)


def test_cycles_end_where_the_rate_reaches_zero():
    schedule = LearningRate(peak=1.0, warmup_epochs=1.0, epochs=7, schedule="cyclic", cycles=3)
    assert [epoch for epoch in range(8) if schedule.ends_cycle(epoch)] == [3, 5, 7]
    assert all(schedule.at(epoch - 1e-6) < 1e-9 for epoch in (3, 5, 7))
    assert not any(LearningRate(1.0, 1.0, 7, "cosine").ends_cycle(epoch) for epoch in range(8))
