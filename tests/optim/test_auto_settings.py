"""The rule behind `auto`, against the rates at which networks were seen to train and to fail."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.large_batch_results import read_results
from radflow.optim.auto_settings import (
    FEWEST_EPOCHS,
    MOST_EPOCHS,
    WANTED_STEPS,
    NetworkKind,
    choose_epochs,
    choose_first_batches,
    choose_optimizer,
    choose_warmup,
    expected_loss_of_auc,
    rate_warning,
)
from radflow.optim.config import OptimizerConfig, OptimizerName

OPTIMIZERS, KINDS = get_args(OptimizerName), get_args(NetworkKind)
batches = st.integers(1, 100_000)


@pytest.mark.parametrize(("batch", "best"), [(64, 0.004), (434, 0.008), (824, 0.016), (2752, 0.03)])
def test_muon_with_batch_norm_is_near_the_best_rate_measured(batch, best):
    """Within a factor of 1.5, where twice the rate and half of it cost little (docs/large-batch.md)."""
    choice = choose_optimizer(OptimizerConfig(), batch, "normalised")
    assert choice.optimizer == "muon"
    assert best / 1.5 <= choice.peak_lr <= 1.5 * best


def test_adam_at_the_papers_batch_has_the_papers_rate():
    """Section III-A.1: 0.0005 at a batch of 8."""
    choice = choose_optimizer(OptimizerConfig(), 8, "normalised")
    assert (choice.optimizer, choice.peak_lr) == ("adam", pytest.approx(0.0005))


@pytest.mark.parametrize(("batch", "best"), [(64, 0.001), (448, 0.004), (832, 0.005), (4096, 0.004)])
def test_adam_with_batch_norm_is_near_the_best_rate_measured(batch, best):
    """Within a factor of 1.5, where twice the rate and half of it cost little (docs/large-batch.md)."""
    peak = choose_optimizer(OptimizerConfig(optimizer="adam"), batch, "normalised").peak_lr
    assert best / 1.5 <= peak <= 1.5 * best


@pytest.mark.parametrize(("batch", "learned"), [(16, 0.00028), (64, 0.0006), (434, 0.0015), (824, 0.002)])
def test_vgg_from_random_weights_takes_muon_at_rates_by_which_it_was_seen_to_learn(batch, learned):
    """By Adam it learned nothing at a batch of 16 (docs/large-batch.md)."""
    choice = choose_optimizer(OptimizerConfig(), batch, "plain")
    assert choice.optimizer == "muon"
    assert learned / 1.1 <= choice.peak_lr <= 1.1 * learned


def test_the_papers_rule_by_name():
    paper = OptimizerConfig(optimizer="adam", base_lr=0.0005, base_batch=8, lr_scaling="linear")
    assert choose_optimizer(paper, 4096, "normalised").peak_lr == pytest.approx(0.256)
    assert "0.256" in rate_warning("adam", 0.256, "normalised")


@given(st.sampled_from(OPTIMIZERS), st.sampled_from(KINDS), batches, batches)
def test_a_larger_batch_never_lowers_the_rate_and_no_rule_warns_of_itself(optimizer, kind, one, other):
    config = OptimizerConfig(optimizer=optimizer)
    low, high = (choose_optimizer(config, batch, kind).peak_lr for batch in sorted((one, other)))
    assert 0 < low <= high < math.inf
    assert rate_warning(optimizer, high, kind) == ""


@given(st.sampled_from(OPTIMIZERS), st.floats(1e-6, 10), st.integers(1, 512), batches, st.sampled_from(KINDS))
def test_a_rate_that_is_given_is_scaled_and_never_capped(optimizer, rate, base_batch, batch, kind):
    none = OptimizerConfig(optimizer=optimizer, base_lr=rate, lr_scaling="none")
    assert choose_optimizer(none, batch, kind).peak_lr == rate
    linear = OptimizerConfig(optimizer=optimizer, base_lr=rate, base_batch=base_batch, lr_scaling="linear")
    assert choose_optimizer(linear, batch, kind).peak_lr == pytest.approx(rate * batch / base_batch)


@pytest.mark.parametrize(
    "given", [{"base_lr": 0.0005}, {"lr_scaling": "linear"}, {"base_lr": 0.001, "lr_scaling": "none"}]
)
def test_a_rate_or_scaling_that_is_given_is_adams_at_any_batch(given):
    choice = choose_optimizer(OptimizerConfig(**given), 4096, "normalised")
    assert choice.optimizer == "adam"


def test_weight_decay_asks_for_the_adam_that_has_it():
    assert choose_optimizer(OptimizerConfig(weight_decay=0.01), 64, "normalised").optimizer == "adamw"


@given(st.integers(1, 5000), st.sampled_from(["cosine", "cyclic"]), st.integers(1, 9))
def test_epochs_make_enough_steps_and_no_cycle_is_cut(steps_per_epoch, schedule, cycles):
    config = OptimizerConfig(schedule=schedule, cycles=cycles if schedule == "cyclic" else OptimizerConfig.cycles)
    epochs = choose_epochs("auto", lambda epochs: epochs * steps_per_epoch, 0, config)
    assert epochs >= FEWEST_EPOCHS
    assert epochs * steps_per_epoch >= WANTED_STEPS or epochs >= MOST_EPOCHS
    if schedule == "cyclic":
        assert (epochs - choose_warmup(config, epochs)) % config.cycles == 0
    else:
        assert (epochs - 1) * steps_per_epoch < WANTED_STEPS or epochs == FEWEST_EPOCHS
        assert epochs <= MOST_EPOCHS


@given(st.integers(1, 2**14), st.integers(1, 20_000), st.integers(1, 64))
def test_a_batch_grows_only_for_steps_that_are_missing_and_ranks_can_share_all_of_it(per_rank, films, ranks):
    global_batch = per_rank * ranks
    first = choose_first_batches(global_batch, films, ranks)
    steps = -(-films // global_batch)
    if MOST_EPOCHS * steps >= WANTED_STEPS:
        assert first == ()
    if first:
        (batch,) = set(first)
        assert batch < global_batch
        assert batch % ranks == 0
        made = len(first) * -(-films // batch)

        def total(epochs: int) -> int:
            return made + (epochs - len(first)) * steps

        epochs = choose_epochs("auto", total, len(first), OptimizerConfig())
        assert len(first) <= 0.75 * epochs <= len(first) + 0.75
        assert total(epochs) >= WANTED_STEPS or epochs >= MOST_EPOCHS
        assert epochs <= MOST_EPOCHS + 1


def test_what_is_given_wins():
    config = OptimizerConfig(warmup_epochs=2.5)
    assert (choose_epochs(7, lambda epochs: epochs, 0, config), choose_warmup(config, 7)) == (7, 2.5)


@pytest.mark.parametrize("steps_an_epoch", [3, 10, 19])
@pytest.mark.parametrize(("kind", "file"), [("pretrained", "vgg16"), ("plain", "vgg16_random")])
def test_what_the_plan_expects_is_what_was_measured(kind, file, steps_an_epoch):
    """What VGG-16 lost in mean test AUC against its best small batch when it was trained by the rule."""
    results = read_results(Path(__file__).parents[2] / f"benchmarks/large_batch_{file}.jsonl")
    of_first_seed = [(cell, result) for cell, _, result in results if result and cell.seed == 0]
    small = max(result.test.auc for cell, result in of_first_seed if cell.steps == 129)
    (ruled,) = (result for cell, result in of_first_seed if (cell.way, cell.steps) == ("auto", steps_an_epoch))
    assert expected_loss_of_auc(ruled.total_steps, kind) == pytest.approx(small - ruled.test.auc, abs=0.001)


@given(st.sampled_from(KINDS), st.integers(1, 10**6), st.integers(1, 10**6))
def test_fewer_steps_are_never_expected_to_cost_less(kind, one, other):
    few, many = sorted((one, other))
    assert expected_loss_of_auc(few, kind) >= expected_loss_of_auc(many, kind) >= 0
