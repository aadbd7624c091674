from __future__ import annotations

import math

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radflow.errors import UserError
from radflow.optim.config import OptimizerConfig
from radflow.optim.factory import build_optimizer
from radflow.optim.learning_rate import LearningRate, peak_learning_rate


@pytest.mark.parametrize(("batch", "rate"), [(8, 0.0005), (16, 0.001), (256, 0.016), (4096, 0.256)])
def test_linear_scaling_doubles_with_the_batch(batch, rate):
    """Section III-A.1: base learning rate 0.0005 at batch 8, doubled each time the batch is."""
    assert peak_learning_rate(OptimizerConfig(), batch) == pytest.approx(rate)


def test_the_mammogram_protocol():
    """Section IV: 0.001 at batch 16 becomes 0.004 at GBZ 64."""
    assert peak_learning_rate(OptimizerConfig(base_lr=0.001, base_batch=16), 64) == pytest.approx(0.004)


def test_base_batch_zero_switches_scaling_off():
    assert peak_learning_rate(OptimizerConfig(base_lr=0.01, base_batch=0), 4096) == 0.01


@given(st.sampled_from(["constant", "cosine", "polynomial", "step", "plateau"]), st.floats(0, 60))
def test_no_schedule_leaves_zero_to_peak_and_warm_up_is_linear(schedule, epoch):
    rate = LearningRate(peak=0.5, warmup_epochs=5, epochs=60, schedule=schedule)
    assert 0 <= rate.at(epoch) <= 0.5
    if epoch < 5:
        assert rate.at(epoch) == pytest.approx(0.5 * epoch / 5)


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


def test_plateau_falls_after_two_epochs_without_gain_and_only_then():
    rate = LearningRate(peak=1.0, warmup_epochs=0, epochs=99, schedule="plateau")
    seen = []
    for loss in (1.0, 0.9, 0.95, 0.8, 0.81, 0.82, 0.83, 0.84, math.nan, math.nan):
        rate.observe(loss)
        seen.append(rate.at(1))
    assert seen == pytest.approx([1, 1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.001])


@pytest.mark.parametrize("wrong", [{"base_lr": 0}, {"base_lr": math.inf}, {"base_batch": -1}, {"warmup_epochs": -1}])
def test_values_outside_their_range_are_named(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        OptimizerConfig(**wrong)


def test_an_unknown_optimizer_is_never_a_silent_adam():
    with pytest.raises(ValueError, match="lion"):
        build_optimizer("lion")
    assert [type(build_optimizer(name)).__name__ for name in ("adam", "adadelta", "sgd")] == ["Adam", "Adadelta", "SGD"]
