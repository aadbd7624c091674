"""The paper's protocol as defaults, and mistakes in one line."""

from __future__ import annotations

import pytest

from radflow.config import parse
from radflow.errors import UserError
from radflow.optim.learning_rate import peak_learning_rate
from radflow.training.config import DistributedConfig
from radflow.transfer.config import CHAMPION, TransferConfig


def test_the_defaults_are_the_papers_protocol():
    """Section IV: Adam, batch 16, learning rate 0.001, 10 epochs, reduced on plateau, cross-entropy; one process."""
    training = TransferConfig().training("crops")
    assert (training.optim.optimizer, training.gbz, training.epochs, training.np) == ("adam", 16, 10, 1)
    assert (training.optim.schedule, training.optim.warmup_epochs) == ("plateau", 0)
    assert (training.objective.loss, training.objective.pos_weight) == ("bce", "none")
    assert peak_learning_rate(training.optim, 16) == pytest.approx(0.001)


def test_four_ranks_get_the_papers_scaled_rate():
    training = parse(TransferConfig, ["--np=4", "--gbz=64"]).training("crops")
    assert training.np * training.lbz == training.gbz
    assert peak_learning_rate(training.optim, training.gbz) == pytest.approx(0.004)


def test_a_flag_leaves_the_other_defaults_alone():
    """Settings of the optimiser are a dataclass in the dataclass: giving one must not fetch `distributed`'s others."""
    training = parse(TransferConfig, ["--optimizer=lars"]).training("crops")
    assert training.optim.base_lr == 0.001
    assert training.optim.schedule == "plateau"


def test_the_training_is_what_was_told():
    config = parse(TransferConfig, ["--source=runs:/abc/model", "--body_lr=0.1", "--frozen_epochs=2", "--seed=7"])
    training = config.training("crops")
    assert isinstance(training, DistributedConfig)
    assert (training.model.weights, training.data, training.seed) == ("runs:/abc/model", "crops", 7)
    assert (training.optim.body_lr, training.optim.frozen_epochs) == (0.1, 2)
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
        (["--body_lr=0"], "body_lr=0"),
    ],
)
def test_mistakes(flags: list[str], words: str):
    with pytest.raises(UserError, match=words) as error:
        parse(TransferConfig, flags)
    assert "\n" not in str(error.value)
