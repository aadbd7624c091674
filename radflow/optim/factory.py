"""One place where an optimiser's name becomes a Keras optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import keras

from radflow.optim.adam import Adam, AdamW
from radflow.optim.body_and_head import BodyAndHead
from radflow.optim.config import OptimizerConfig, OptimizerName
from radflow.optim.exclusions import is_bias_or_norm
from radflow.optim.lamb import LAMB
from radflow.optim.lars import LARS
from radflow.optim.muon import Muon, Ranks


def build_optimizer(
    config: OptimizerConfig,
    weights: Sequence[keras.Variable],
    head: Sequence[keras.Variable] = (),
    precision: str = "float32",
    ranks: Ranks | None = None,
) -> keras.optimizers.Optimizer | BodyAndHead:
    """The optimiser of a classifier's `weights`, not yet built; `head` are those that are not of its body.

    With `precision` mixed_bfloat16, matrix products of the update are in bfloat16, as those of the network. `ranks` are
    those that train together.
    """
    if not config.treats_body_apart:
        return _of_one_rate(config, weights, head, precision, ranks)
    head_ids = {id(weight) for weight in head}
    body = [weight for weight in weights if id(weight) not in head_ids]
    of_body, of_head = (_of_one_rate(config, part, head, precision, ranks) for part in (body, head))
    return BodyAndHead(of_body, of_head, head, config.body_lr_factor)


def _of_one_rate(
    config: OptimizerConfig,
    weights: Sequence[keras.Variable],
    head: Sequence[keras.Variable],
    precision: str,
    ranks: Ranks | None,
) -> keras.optimizers.Optimizer:
    """An optimiser for `weights`, not yet built, whose learning rate the training loop sets before each step.

    Raises ValueError for a name that is not known, `auto` among them: the rule resolves it before.
    """
    match config.optimizer:
        case "adam":
            return Adam(learning_rate=0.0)
        case "adamw":
            adamw = AdamW(learning_rate=0.0, weight_decay=config.weight_decay)
            adamw.exclude_from_weight_decay([weight for weight in weights if is_bias_or_norm(weight)])
            return adamw
        case "adadelta":
            return keras.optimizers.Adadelta(learning_rate=0.0)
        case "sgd" | "nesterov":
            return keras.optimizers.SGD(0.0, config.momentum, nesterov=config.optimizer == "nesterov")
        case "lars":
            return LARS(0.0, config.momentum, config.weight_decay)
        case "lamb":
            return LAMB(0.0, weight_decay=config.weight_decay)
        case "muon":
            of_head = [weight.path for weight in head]
            matrix_dtype = "bfloat16" if precision == "mixed_bfloat16" else "float32"
            return Muon(
                0.0, config.momentum, config.weight_decay or None, of_head, matrix_dtype=matrix_dtype, ranks=ranks
            )
    raise ValueError(f"optimizer={config.optimizer!r} is not known; expected one of {get_args(OptimizerName)}")
