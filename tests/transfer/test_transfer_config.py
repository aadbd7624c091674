"""The paper's protocol as defaults, and mistakes in one line."""

from __future__ import annotations

import pytest

from radflow.cluster.batch_plan import BatchSchedule, plan_batches
from radflow.config import parse
from radflow.errors import UserError
from radflow.training.config import DistributedConfig
from radflow.training.recipe import resolve
from radflow.transfer.config import CHAMPION, TransferConfig


def test_the_defaults_are_the_papers_protocol_and_the_rules_rate():
    """Section IV: batch 16, 10 epochs, reduced on plateau, cross-entropy; one process."""
    training = TransferConfig().training("crops")
    assert (training.gbz, training.epochs, training.np, training.optim.schedule) == (16, 10, 1, "plateau")
    assert (training.objective.loss, training.objective.pos_weight) == ("bce", "none")
    assert (training.optim.optimizer, training.optim.base_lr, training.optim.warmup_epochs) == ("auto", "auto", "auto")


def test_four_ranks_get_the_papers_scaled_rate_by_name():
    flags = ["--np=4", "--gbz=64", "--base_lr=0.001", "--base_batch=16", "--lr_scaling=linear", "--warmup_epochs=0"]
    training = parse(TransferConfig, flags).training("crops")
    batches = plan_batches(training.gbz, training.largest_local_batch(299), 4, films=1920)
    assert batches.local_batch * 4 == training.gbz
    recipe = resolve(training, BatchSchedule(batches))
    assert (recipe.optimizer, recipe.peak_lr, recipe.warmup_epochs) == ("adam", pytest.approx(0.004), 0)


def test_a_flag_leaves_the_other_defaults_alone():
    """Settings of the optimiser are a dataclass in the dataclass: giving one must not fetch `distributed`'s others."""
    training = parse(TransferConfig, ["--optimizer=lars"]).training("crops")
    assert training.optim.schedule == "plateau"


def test_the_training_is_what_was_told():
    config = parse(
        TransferConfig, ["--source=runs:/abc/model", "--body_lr_factor=0.1", "--frozen_epochs=2", "--seed=7"]
    )
    training = config.training("crops")
    assert isinstance(training, DistributedConfig)
    assert (training.model.weights, training.data, training.seed) == ("runs:/abc/model", "crops", 7)
    assert (training.optim.body_lr_factor, training.optim.frozen_epochs) == (0.1, 2)
    assert TransferConfig().training("crops").model.weights == CHAMPION


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--seeds=0"], "seeds=0"),
        (["--target_auc=1.5"], "target_auc=1.5"),
        (["--weights=imagenet"], "source=imagenet"),
        (["--source=compare", "--pretrained=none"], "nothing to compare"),
        (["--source=compare", "--resume=auto"], "goes on by itself"),
        (["--frozen_epochs=10"], "frozen_epochs=10 of epochs=10"),
        (["--frozen_epochs=1", "--source=none"], "random weights"),
        (["--body_lr_factor=0"], "body_lr_factor=0"),
    ],
)
def test_mistakes(flags: list[str], words: str):
    with pytest.raises(UserError, match=words) as error:
        parse(TransferConfig, flags)
    assert "\n" not in str(error.value)
