"""The search space as data: the presets hold the paper's settings and lead to valid trainings; mistakes are told."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import FixedTrial

from radflow.errors import UserError
from radflow.optim.config import WITH_MOMENTUM, WITH_WEIGHT_DECAY
from radflow.search.config import SearchConfig
from radflow.search.settings import check_settings, shared_settings, trial_config
from radflow.search.space import PRESETS, parse_space, read_space
from radflow.training.config import DistributedConfig

OUT = Path("runs")


def baseline_configs(config: SearchConfig) -> list[DistributedConfig]:
    space, shared = read_space(config.space), shared_settings(config)
    chosen = [space.suggest(FixedTrial(params), shared) for params in space.baseline_params(shared)]
    return [trial_config(config, space, each, OUT) for each in chosen]


def test_the_baseline_of_large_batch_is_the_rule_and_the_papers() -> None:
    auto, adam, adadelta = baseline_configs(SearchConfig(gbz=4096))
    assert (auto.optim.optimizer, auto.optim.base_lr, auto.optim.lr_scaling) == ("auto", "auto", "auto")
    assert auto.optim.warmup_epochs == "auto"
    # Section III-A.1: base learning rate 0.0005 at a batch of 8, linearly scaled. Section III-C: AdaDelta,
    # "5 epoch warmup to a learning rate of 0.5 and a learning rate decay factor of 0.1 per epoch starting at epoch 50".
    assert (adam.optim.optimizer, adam.optim.base_lr, adam.optim.lr_scaling) == ("adam", 0.0005, "linear")
    assert (adadelta.optim.optimizer, adadelta.optim.base_lr, adadelta.optim.lr_scaling) == ("adadelta", 0.5, "none")
    assert (adadelta.optim.warmup_epochs, adadelta.optim.schedule) == (5, "step")
    assert (adam.model.norm, adam.gbz, adam.lbz) == ("batch", 4096, 16)


def test_trials_neither_look_at_test_films_nor_log_models() -> None:
    assert not any(config.assess for config in baseline_configs(SearchConfig()))


@pytest.mark.parametrize("arch", ["densenet121", "vgg16"])
@pytest.mark.parametrize("preset", [path.stem for path in PRESETS.glob("*.yaml")])
def test_whatever_a_preset_draws_is_a_valid_training(preset: str, arch: str) -> None:
    config = SearchConfig(space=preset, arch=arch)
    space, shared = read_space(preset), shared_settings(config)
    assert len(baseline_configs(config)) >= 1
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(12):
        chosen = space.suggest(study.ask(), shared)
        training = trial_config(config, space, chosen, OUT)
        assert ("momentum" in chosen) <= (training.optim.optimizer in WITH_MOMENTUM)
        assert ("weight_decay" in chosen) <= (training.optim.optimizer in WITH_WEIGHT_DECAY)
        assert "norm" not in chosen or arch != "vgg16"
        assert (training.optim.lr_scaling == "none") == (training.optim.optimizer == "adadelta")
        assert (training.optim.base_lr == "auto") == (training.optim.optimizer == "auto")


def test_alternatives_of_a_parameter_are_different_dimensions() -> None:
    space = parse_space(
        {
            "search": {
                "optimizer": {"choices": ["adam", "sgd"]},
                "base_lr": [
                    {"when": {"optimizer": ["adam"]}, "low": "1e-5", "high": "1e-3", "log": True},
                    {"when": {"optimizer": ["sgd"]}, "low": 0.1, "high": 1.0},
                ],
            }
        }
    )
    labels = [domain.label for domain in space.domains["base_lr"]]
    assert labels == ["base_lr (adam)", "base_lr (sgd)"]
    assert space.suggest(FixedTrial({"optimizer": "sgd", "base_lr (sgd)": 0.3}), {}) == {
        "optimizer": "sgd",
        "base_lr": 0.3,
    }


LR = {"low": 1e-5, "high": 1e-3}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "search must not be empty"),
        ({"search": {}}, "search must not be empty"),
        ({"search": {"base_lr": LR}, "pruner": "median"}, "sections"),
        ({"search": {"learning_rate": LR}}, "learning_rate"),
        ({"search": {"epochs": {"choices": [1, 2]}}}, "epochs"),
        ({"search": {"base_lr": 0.1}}, "base_lr"),
        ({"search": {"base_lr": {"low": 2.0, "high": 1.0}}}, "base_lr"),
        ({"search": {"base_lr": {"low": 0.0, "high": 1.0, "log": True}}}, "base_lr"),
        ({"search": {"base_lr": {"low": 0.1, "high": 1.0, "steps": 3}}}, "steps"),
        ({"search": {"base_lr": {"low": 0.1, "high": float("inf"), "step": 0.1}}}, "base_lr is neither"),
        ({"search": {"momentum": {**LR, "when": {"optimizer": ["sgd"]}}, "optimizer": {"choices": ["sgd"]}}}, "above"),
        ({"search": {"base_lr": LR}, "baseline": [{}]}, "lacks base_lr"),
        ({"search": {"base_lr": LR}, "baseline": [{"base_lr": 0.1}]}, "outside"),
        ({"search": {"base_lr": LR}, "baseline": [{"base_lr": 1e-4, "norm": "batch"}]}, "norm"),
        ({"search": {"base_lr": LR}, "baseline": ["adam"]}, "baseline"),
    ],
)
def test_mistakes_are_told_by_name(content: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_space(content).baseline_params({})


@pytest.mark.parametrize(
    ("searched", "words"),
    [
        ({"optimizer": {"choices": ["adam", "adan"]}}, "adan"),
        ({"base_lr": {"low": -1.0, "high": 1.0}}, "base_lr=-"),
        ({"norm": {"choices": ["batch", "none"]}}, "norm=none"),
        ({"lbz": {"choices": [16, "many"]}}, "many"),
    ],
)
def test_values_that_no_training_takes_are_found_before_the_first(searched: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_settings(SearchConfig(), parse_space({"search": searched}))


def test_a_space_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="large-batch or quick"):
        read_space("nowhere.yaml")
    (tmp_path / "space.yaml").write_text("search: [")
    with pytest.raises(UserError, match="not YAML"):
        read_space(str(tmp_path / "space.yaml"))
