"""Everything left to `auto`, resolved together; mistakes in one line."""

from __future__ import annotations

import pytest

from radflow.cluster.batch_plan import plan_batches
from radflow.errors import UserError
from radflow.models.config import ModelConfig
from radflow.optim.config import OptimizerConfig
from radflow.training.config import DistributedConfig, TrainConfig
from radflow.training.plan import TrainingFilms, make_plan, plan_ranks, plan_rows
from radflow.training.recipe import resolve

FILMS = TrainingFilms("phantoms", 64, 4118)


def test_the_sentence_on_the_sample():
    """gbz=4096 on two ranks: two even steps an epoch, Adam below the rate at which it fails, epochs for the steps."""
    plan = make_plan(DistributedConfig(gbz=4096), FILMS, 4096, 16, ranks=2)
    settings = plan.settings
    assert (settings["steps_per_epoch"], settings["effective_gbz"], settings["optimizer"]) == (2, 2059, "adam")
    assert settings["peak_lr"] == 0.004
    assert plan.total_steps >= 100
    assert "auto" not in {settings[name] for name in ("optimizer", "base_lr", "lr_scaling", "warmup_epochs", "epochs")}
    assert {"epochs", "peak_lr", "warmup_epochs", "optimizer"} <= plan.recipe.reasons.keys()


@pytest.mark.parametrize(
    ("lbz", "ranks", "norm"), [(16, 2, "batch"), (4, 128, "sync_batch"), (8, 2, "sync_batch"), (8, 1, "batch")]
)
def test_few_films_on_a_rank_are_normalised_with_those_of_the_others(lbz, ranks, norm):
    """The paper's DenseNet-121 at GBZ=512 with LBZ=4 predicted no better than a coin."""
    assert resolve(DistributedConfig(), plan_batches(512, lbz, ranks, 78_000)).norm == norm


def test_the_papers_failure_stays_reproducible_by_flags():
    config = DistributedConfig(gbz=512, lbz=4, model=ModelConfig(norm="batch"))
    assert resolve(config, plan_batches(512, 4, 128, 78_000)).norm == "batch"


def test_a_network_without_normalisation_gets_lower_rates():
    peaks = [
        resolve(TrainConfig(model=ModelConfig(arch=arch, weights=weights)), plan_batches(448, 16, 1, 8237)).peak_lr
        for arch, weights in (("densenet121", "none"), ("vgg16", "imagenet"), ("vgg16", "none"))
    ]
    assert peaks[0] > peaks[1] > peaks[2]


def test_the_price_of_few_steps_and_what_buys_more_is_in_the_table():
    few = TrainConfig(epochs=15)
    rows = {what: (value, why) for what, value, why in plan_rows(make_plan(few, FILMS, 4096, 16, ranks=2))}
    assert "30 steps" in rows["epochs"][0]
    assert "below a small batch" in rows["expected accuracy"][0]
    assert "more epochs" in rows["expected accuracy"][1]
    assert rows["expected time"][0] == "not known yet"


def test_the_table_warns_of_idle_slots_small_local_batches_and_wild_rates():
    idle = plan_ranks(DistributedConfig(gbz=33, hosts="a:1,b:1"), FILMS)
    assert any("only 1 are used; gbz=32 or 34" in warning for warning in idle.warnings)
    prime = plan_ranks(DistributedConfig(gbz=1018, hosts="a:1,b:1"), FILMS)
    assert any("LBZ 1 only; gbz=992 or 1024" in warning for warning in prime.warnings)
    linear = plan_ranks(DistributedConfig(gbz=4096, optim=OptimizerConfig(lr_scaling="linear")), FILMS)
    assert any("seldom trains" in warning for warning in linear.warnings)
    small = plan_ranks(DistributedConfig(gbz=8192), FILMS)
    assert any("fewer than the global batch" in warning for warning in small.warnings)
    assert plan_ranks(DistributedConfig(gbz=64, hosts="a:1,b:1"), FILMS).warnings == ()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"gbz": 0}, "gbz=0"),
        ({"gbz": -64}, "gbz=-64"),
        ({"lbz": 0}, "lbz=0"),
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": -3}, "epochs=-3"),
    ],
)
def test_nothing_below_one(told, words):
    with pytest.raises(UserError, match=words) as error:
        DistributedConfig(**told)
    assert "\n" not in str(error.value)
