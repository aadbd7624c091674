"""Everything left to `auto`, resolved together; mistakes in one line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from radflow.cluster.batch_plan import BatchSchedule, plan_batches
from radflow.errors import UserError
from radflow.models.config import ModelConfig
from radflow.optim.config import OptimizerConfig
from radflow.training.config import DistributedConfig, TrainConfig
from radflow.training.plan import TrainingFilms, make_plan, plan_ranks, plan_rows
from radflow.training.recipe import resolve

FILMS = TrainingFilms("phantoms", 64, 4118)


def test_a_large_batch_by_the_rule():
    """gbz=4096 on two ranks: two even steps an epoch, Muon at the square root of the batch, epochs for the steps."""
    plan = make_plan(DistributedConfig(gbz=4096), FILMS, 4096, 16, ranks=2)
    settings = plan.settings
    assert (settings["steps_per_epoch"], settings["effective_gbz"], settings["optimizer"]) == (2, 2059, "muon")
    assert settings["peak_lr"] == pytest.approx(0.0016 * (2059 / 8) ** 0.5)
    assert plan.total_steps == 100  # 50 epochs
    assert "auto" not in {settings[name] for name in ("optimizer", "base_lr", "lr_scaling", "warmup_epochs", "epochs")}
    assert {"epochs", "peak_lr", "warmup_epochs", "optimizer"} <= plan.recipe.reasons.keys()


@pytest.mark.parametrize(
    ("lbz", "ranks", "norm"), [(16, 2, "batch"), (4, 128, "sync_batch"), (8, 2, "sync_batch"), (8, 1, "batch")]
)
def test_few_films_on_a_rank_are_normalised_with_those_of_the_others(lbz, ranks, norm):
    """The paper's DenseNet-121 at GBZ=512 with LBZ=4 predicted no better than a coin."""
    assert resolve(DistributedConfig(), BatchSchedule(plan_batches(512, lbz, ranks, 78_000))).norm == norm


def test_one_rank_normalises_its_own_films_without_asking_others():
    config = DistributedConfig(model=ModelConfig(norm="sync_batch"))
    assert resolve(config, BatchSchedule(plan_batches(512, 4, 1, 78_000))).norm == "batch"
    assert resolve(config, BatchSchedule(plan_batches(512, 64, 2, 78_000))).norm == "sync_batch"


@pytest.mark.parametrize(("size", "local_batch"), [(32, 64), (64, 64), (128, 49), (224, 16), (299, 16)])
def test_the_local_batch_fits_the_memory_that_16_films_of_224_px_take(size, local_batch):
    assert DistributedConfig().largest_local_batch(size) == local_batch
    assert DistributedConfig(lbz=5).largest_local_batch(size) == 5


def test_the_papers_failure_stays_reproducible_by_flags():
    config = DistributedConfig(gbz=512, lbz=4, model=ModelConfig(norm="batch"))
    assert resolve(config, BatchSchedule(plan_batches(512, 4, 128, 78_000))).norm == "batch"


@pytest.mark.parametrize(("given", "chosen"), [("auto", "float32"), ("mixed_bfloat16", "mixed_bfloat16")])
def test_the_number_format_is_that_of_the_cpu_unless_given(given, chosen, monkeypatch: pytest.MonkeyPatch):
    """The plan says what is trained in; the settings that a resumed job is found by stay as given."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    plan = make_plan(TrainConfig(model=ModelConfig(precision=given)), FILMS, 16, 16, ranks=1)
    assert plan.recipe.precision == chosen
    assert ("number format", chosen, "") in plan_rows(plan)
    assert plan.settings["precision"] == given


def test_a_network_without_normalisation_gets_lower_rates():
    batches = BatchSchedule(plan_batches(448, 16, 1, 8237))
    peaks = [
        resolve(TrainConfig(model=ModelConfig(arch=arch, weights=weights)), batches).peak_lr
        for arch, weights in (("densenet121", "none"), ("vgg16", "imagenet"), ("vgg16", "none"))
    ]
    assert peaks[0] > 5 * max(peaks[1:])


def test_first_batches_that_are_small_are_trained_by_the_optimizer_of_the_full_one():
    """Which alone is built; by themselves steps of 32 films would be Adam's."""
    config = DistributedConfig(gbz=4096, gbz_schedule="32:1", hosts="localhost:2", epochs=10)
    recipe = plan_ranks(config, FILMS).recipe
    assert recipe.optimizer == "muon"
    assert recipe.first_factors == pytest.approx([(32 / 2059) ** 0.5], rel=0.01)


def test_a_global_batch_that_the_films_do_not_quite_fill_has_the_optimizer_of_those_they_do():
    """The 1,253 training films of the public sample of ChestX-ray14 make 20 steps of 63 at gbz=64."""
    films = TrainingFilms("chestxray14", 64, 1253)
    assert plan_ranks(DistributedConfig(gbz=64, epochs=10), films).recipe.optimizer == "muon"
    assert plan_ranks(DistributedConfig(gbz=60, epochs=10), films).recipe.optimizer == "adam"
    assert plan_ranks(DistributedConfig(gbz=64, epochs=10), replace(films, count=40)).recipe.optimizer == "adam"


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
    assert any("LBZ 1 only; gbz=896 or 1024" in warning for warning in prime.warnings)
    linear = plan_ranks(DistributedConfig(gbz=4096, optim=OptimizerConfig(lr_scaling="linear")), FILMS)
    assert any("seldom trains" in warning for warning in linear.warnings)
    noisy = plan_ranks(DistributedConfig(gbz=512, lbz=4, hosts="a:8", model=ModelConfig(norm="batch")), FILMS)
    assert any("4 films hardly learns" in warning and "sync_batch" in warning for warning in noisy.warnings)
    slow = plan_ranks(DistributedConfig(gbz=64, optim=OptimizerConfig(warmup_epochs=12)), FILMS)
    assert any("ends at 25% of its rate; give more than 3 epochs" in warning for warning in slow.warnings)
    small = plan_ranks(DistributedConfig(gbz=8192, epochs=10), FILMS)
    assert any("fewer than the global batch" in warning for warning in small.warnings)
    assert plan_ranks(DistributedConfig(gbz=64, hosts="a:1,b:1"), FILMS).warnings == ()


def test_smaller_first_batches_have_lower_rates_and_buy_steps():
    config = DistributedConfig(gbz=4096, gbz_schedule="128:1,512:2", hosts="localhost:2", epochs=10)
    plan = plan_ranks(config, FILMS)
    assert [each.global_batch for each in plan.schedule.first] == [128, 512, 512]
    assert plan.total_steps == 33 + 9 + 9 + 7 * 2
    # 4,118 films make 33 steps of 125 at most and 9 of 458: the rates are those of Muon at these batches.
    expected = [(films / 2059) ** 0.5 for films in (125, 458, 458)]
    assert plan.recipe.first_factors == pytest.approx(expected)
    assert ("first epochs", "1 of GBZ 128, 2 of GBZ 512") in [row[:2] for row in plan_rows(plan)]
    assert plan.settings["gbz_schedule"] == "128:1,512:2"
    # One epoch of ten is warm-up: the one of 33 steps.
    assert plan.recipe.reasons["warmup_epochs"] == "a tenth of training, 33 steps"


def test_the_batch_grows_where_50_epochs_are_too_few_steps():
    """The sample has 3,995 training films, one step of 4,096: 18 epochs of 8 steps of 512 and 6 of one are 150."""
    plan = plan_ranks(DistributedConfig(gbz=4096, hosts="localhost:2"), TrainingFilms("phantoms", 64, 3995))
    assert (plan.settings["gbz_schedule"], plan.recipe.epochs, plan.total_steps) == ("512:18", 24, 150)
    # Muon at the square root of the batch, from 500 films a step to the limit of the full one's.
    assert plan.recipe.first_factors == pytest.approx([0.0016 * (500 / 8) ** 0.5 / 0.03] * 18)
    assert plan.warnings == ()
    assert ("first epochs", "18 of GBZ 512", "smaller batches take more steps, at 0.01265") in plan_rows(plan)


@pytest.mark.parametrize(
    "told",
    [{"gbz_schedule": "none"}, {"epochs": 24}, {"gbz": 1024}, {"optim": OptimizerConfig(schedule="cyclic")}],
)
def test_the_batch_does_not_grow_where_it_need_not_or_something_else_is_said(told):
    plan = plan_ranks(DistributedConfig(**{"gbz": 4096, **told}), TrainingFilms("phantoms", 64, 3995))
    assert plan.schedule.first == ()
    assert plan.settings["gbz_schedule"] == "none"


def test_a_schedule_that_is_given_leaves_a_quarter_of_the_epochs_to_the_full_batch():
    plan = plan_ranks(DistributedConfig(gbz=512, gbz_schedule="64:60"), FILMS)
    assert plan.recipe.epochs == 80


def test_statistics_are_taken_over_ranks_where_the_first_batches_leave_few_films_to_each():
    config = DistributedConfig(gbz=512, gbz_schedule="32:2", hosts="a:8")
    assert plan_ranks(config, FILMS).recipe.norm == "sync_batch"
    noisy = plan_ranks(replace(config, model=ModelConfig(norm="batch")), FILMS)
    assert any("4 films hardly learns" in warning for warning in noisy.warnings)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"gbz": 0}, "gbz=0"),
        ({"gbz": -64}, "gbz=-64"),
        ({"lbz": 0}, "lbz=0"),
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": -3}, "epochs=-3"),
        ({"gbz": 512, "gbz_schedule": "1024:2"}, "gbz_schedule=1024:2 goes above gbz=512"),
        ({"gbz_schedule": "0:2"}, "GBZ:EPOCHS"),
        ({"gbz_schedule": "16:-2"}, "GBZ:EPOCHS"),
        ({"gbz_schedule": "16"}, "GBZ:EPOCHS"),
        ({"gbz_schedule": ""}, "GBZ:EPOCHS"),
        ({"gbz_schedule": "16:5", "epochs": 5}, "leaves none of epochs=5"),
    ],
)
def test_mistakes(told, words):
    with pytest.raises(UserError, match=words) as error:
        DistributedConfig(**told)
    assert "\n" not in str(error.value)
