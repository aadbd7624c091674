"""Predictions against cases computed by hand, and against sums that follow a known law."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured_ranks import GRADIENT, law, measurement, sums

from radflow.scaling.measured import Measurement
from radflow.scaling.model import ScalingModel, fit_sums


@given(st.floats(1e-6, 5e-3), st.floats(0.1, 400))
def test_latency_and_bandwidth_are_found_again(latency: float, gigabits: float) -> None:
    measured = [(ranks, each) for ranks in (1, 2, 4) for each in sums(ranks, latency, gigabits)]
    model = fit_sums(measured)
    assert model.latency == pytest.approx(latency, rel=0.01)
    assert model.gigabits == pytest.approx(gigabits, rel=0.01)
    for ranks in (2, 4, 64, 4096):
        expected = law(ranks, GRADIENT, latency, gigabits)
        assert model.seconds(ranks, GRADIENT) == pytest.approx(expected, rel=0.01)


def test_messages_that_buffers_let_through_at_once_do_not_pass_for_bandwidth() -> None:
    measured = [(ranks, each) for ranks in (1, 2, 4) for each in sums(ranks, 1e-3, 0.1)]
    burst = [
        (ranks, replace(each, seconds=each.seconds / 2) if ranks > 1 and each.bytes == 2**18 else each)
        for ranks, each in measured
    ]
    assert fit_sums(burst).gigabits == pytest.approx(0.1, rel=0.02)


def test_a_step_is_computing_and_sum_and_update() -> None:
    """Over 1 Gbit/s 64 ranks sum 40 MB, .32 s on the link, in 2 x 63/64 x .32 s, with 12 messages of 1 ms."""
    measured = [measurement(hosts, 1e-3, 1.0) for hosts in ("a", "ab", "abcd")]
    model = ScalingModel(measured, 1, 99, 9)
    step = model.predict("vgg16", 16, 64)
    summing = 1e-3 + 40e6 * 2e-10 + 12 * 1e-3 + 2 * 63 / 64 * 0.32
    assert step.summing == pytest.approx(summing, rel=1e-3)
    assert step.seconds == pytest.approx(1.0 + summing + 0.05, rel=1e-3)
    assert step.images_per_second == pytest.approx(64 * 16 / step.seconds)
    assert not model.is_assumed


def test_micro_steps_share_one_sum() -> None:
    model = ScalingModel([measurement("a", 0, 1), measurement("ab", 1e-3, 1.0)], 1, 99, 9)
    one, four = (model.predict("vgg16", 16, 64, micro_steps=count) for count in (1, 4))
    assert four.summing == one.summing
    assert four.seconds == pytest.approx(one.seconds + 3.0)
    assert four.global_batch == 4 * one.global_batch == 4096


def test_float16_halves_what_is_sent_and_keeps_the_cost_of_conversion() -> None:
    model = ScalingModel([measurement("a", 0, 1), measurement("ab", 1e-3, 1.0)], 1, 99, 9)
    half = model.predict("vgg16", 16, 64, float16=True)
    sent = model.network.seconds(64, GRADIENT / 2)
    conversion = 0.1 - model.network.seconds(2, GRADIENT / 2)  # what two ranks measured had the sum in it
    assert half.summing == pytest.approx(sent + max(conversion, 0))


def test_within_a_machine_ranks_have_its_own_link_and_between_machines_the_assumed_one() -> None:
    model = ScalingModel([measurement("a", 0, 1), measurement("aa", 1e-5, 80.0, computing=1.5)], 2, 10.0, 5e-5)
    assert model.is_assumed
    assert model.predict("vgg16", 16, 2).summing == pytest.approx(law(2, GRADIENT, 1e-5, 80.0), rel=0.01)
    assert model.predict("vgg16", 16, 8).summing == pytest.approx(law(8, GRADIENT, 5e-5, 10.0), rel=0.01)
    # Two ranks of a machine slow each other down, on one machine or on many.
    assert [model.predict("vgg16", 16, ranks).computing for ranks in (1, 2, 8)] == [1.0, 1.5, 1.5]


def test_what_was_measured_comes_back_from_its_file() -> None:
    whole = measurement("ab", 1e-3, 1.0)
    assert Measurement.from_json(whole.to_json()) == whole
    assert (whole.ranks, whole.machines) == (2, 2)
