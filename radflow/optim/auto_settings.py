"""The rule behind `auto`: optimiser, learning rate, warm-up and epochs, from the global batch and the network.

docs/large-batch.md has the measurements that it comes from. What the user gives wins, and the rest follows from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np

from radflow.optim.config import Auto, OptimizerConfig, OptimizerName, Scaling
from radflow.optim.learning_rate import scale_learning_rate

SMALLEST_MUON_BATCH = 64
"""Global batch from which on Muon is the optimiser: with fewer films its update would be a tenth of a step or more."""
WANTED_STEPS = 150
"""Optimiser steps of `epochs=auto`: with far fewer, no learning rate makes up for those that are missing."""
FEWEST_EPOCHS, MOST_EPOCHS = 3, 50
"""Bounds of `epochs=auto`."""
STEPS_OF_FIRST_EPOCHS = 8
"""Steps at least of a first epoch where the global batch grows, which it does where `MOST_EPOCHS` are too few steps."""
FULL_BATCH_SHARE = 0.25
"""Share of the epochs, the last ones, that have the full global batch where it grows."""
WARMUP_SHARE = 0.1
"""Share of a training that its warm-up takes."""

NetworkKind = Literal["normalised", "pretrained", "plain"]
"""Networks with normalisation layers; without, from pre-trained weights; without, from random ones."""


@dataclass(frozen=True)
class _BaseRate:
    """Learning rate of an optimiser at a batch of 8 films, how it scales, and the peak above which it fails."""

    base_lr: float
    scaling: Scaling
    largest: float = math.inf


_BASE_RATES: dict[OptimizerName, dict[NetworkKind, _BaseRate]] = {
    "adam": {
        "normalised": _BaseRate(0.0005, "sqrt", 0.004),  # the paper's own base rate
        "pretrained": _BaseRate(0.00005, "sqrt", 0.0001),
        "plain": _BaseRate(0.0001, "sqrt", 0.0003),
    },
    "lamb": {
        "normalised": _BaseRate(0.004, "sqrt", 0.03),
        "pretrained": _BaseRate(0.001, "sqrt", 0.01),
        "plain": _BaseRate(0.001, "sqrt", 0.01),
    },
    "lars": {
        "normalised": _BaseRate(1.3, "sqrt", 10.0),
        "pretrained": _BaseRate(0.1, "sqrt", 1.0),
        "plain": _BaseRate(0.1, "sqrt", 1.0),
    },
    "muon": {
        "normalised": _BaseRate(0.0016, "sqrt", 0.03),
        "pretrained": _BaseRate(0.0001, "sqrt", 0.001),
        "plain": _BaseRate(0.0002, "sqrt", 0.002),
    },
    "sgd": {
        "normalised": _BaseRate(0.003, "linear", 0.3),
        "pretrained": _BaseRate(0.001, "linear", 0.03),
        "plain": _BaseRate(0.001, "linear", 0.03),
    },
    "adadelta": {
        "normalised": _BaseRate(1.0, "none"),
        "pretrained": _BaseRate(0.5, "none"),
        "plain": _BaseRate(0.5, "none"),
    },
}
FAR_ABOVE = 3.0
"""Multiple of the largest rate of the rule above which a rate that is given gets a warning."""

# Optimiser steps of a whole training and what they cost (docs/large-batch.md).
_LOSS_OF_AUC: dict[NetworkKind, tuple[tuple[int, float], ...]] = {
    "normalised": ((30, 0.082), (60, 0.026), (102, 0.013), (190, 0.005), (1290, 0.0)),
    "pretrained": ((30, 0.018), (100, 0.002), (1290, 0.0)),
    "plain": ((30, 0.134), (100, 0.021), (190, 0.006), (1290, 0.0)),
}
_SAME_RATES: dict[OptimizerName, OptimizerName] = {"adamw": "adam", "nesterov": "sgd"}


@dataclass(frozen=True)
class OptimizerChoice:
    """An optimiser and its peak learning rate, resolved; and why, by setting."""

    optimizer: OptimizerName
    base_lr: float
    lr_scaling: Scaling
    peak_lr: float
    reasons: dict[str, str]


def choose_optimizer(
    config: OptimizerConfig, global_batch: int, kind: NetworkKind, wanted_batch: int = 0
) -> OptimizerChoice:
    """Resolve optimiser and learning rate for steps of `global_batch` films on a network of this kind.

    Where an epoch's films fill its steps all but a few, `wanted_batch` is what was asked for: the optimiser is that of
    63 films a step as of 64. The base rate is the rule's where `base_lr=auto`, and so is the limit on the peak; a rate
    or a scaling that is given has no limit, and is taken for Adam's.
    """
    reasons = {}
    optimizer = config.optimizer
    if optimizer == "auto":
        optimizer, reasons["optimizer"] = _auto_optimizer(config, max(global_batch, wanted_batch), kind)
    usual = _usual(optimizer, kind)
    base_lr = usual.base_lr if config.base_lr == "auto" else config.base_lr
    scaling = usual.scaling if config.lr_scaling == "auto" else config.lr_scaling
    peak = scale_learning_rate(base_lr, config.base_batch, scaling, global_batch)
    reasons["peak_lr"] = _in_words(base_lr, config.base_batch, scaling, global_batch)
    if config.base_lr == config.lr_scaling == "auto" and usual.largest < math.inf:
        peak = min(peak, usual.largest)
        reasons["peak_lr"] += f", at most {usual.largest:g} for {_IN_WORDS[kind]}"
    return OptimizerChoice(optimizer, base_lr, scaling, peak, reasons)


def _auto_optimizer(config: OptimizerConfig, global_batch: int, kind: NetworkKind) -> tuple[OptimizerName, str]:
    """An optimiser, and why."""
    if config.weight_decay:
        return "adamw", f"weight_decay={config.weight_decay:g} is given"
    if not config.base_lr == config.lr_scaling == "auto":
        return "adam", "the paper's, for a learning rate that is given"
    # Plain networks are worth Muon's longer steps: VGG-16 learned nothing by Adam from 16 films a step.
    if global_batch < SMALLEST_MUON_BATCH and kind != "plain":
        return "adam", f"the paper's, for global batches of fewer than {SMALLEST_MUON_BATCH} films"
    return "muon", "best at every batch measured"


def choose_first_batches(global_batch: int, films: int, ranks: int) -> tuple[int, ...]:
    """Smaller global batches for the first epochs, one each, where `MOST_EPOCHS` of the full one are too few steps.

    It is halved, as long as the ranks can share it, until an epoch of `films` has `STEPS_OF_FIRST_EPOCHS`; and there
    are as many such epochs as make `WANTED_STEPS` together with the last ones, which have the full global batch.
    """
    last_steps = math.ceil(films / global_batch)
    if MOST_EPOCHS * last_steps >= WANTED_STEPS:
        return ()
    batch = global_batch
    while math.ceil(films / batch) < STEPS_OF_FIRST_EPOCHS and batch % (2 * ranks) == 0:
        batch //= 2
    if batch == global_batch:
        return ()
    first_steps = math.ceil(films / batch)

    def suffice(first: int) -> bool:
        epochs = _epochs_with(first)
        return epochs >= MOST_EPOCHS or first * first_steps + (epochs - first) * last_steps >= WANTED_STEPS

    return (batch,) * next(first for first in count(1) if suffice(first))


def _epochs_with(first_epochs: int) -> int:
    """Fewest epochs of which so many may have smaller global batches."""
    return math.ceil(first_epochs / (1 - FULL_BATCH_SHARE))


def choose_epochs(
    epochs: Auto | int, steps_of: Callable[[int], int], first_epochs: int, config: OptimizerConfig
) -> int:
    """Epochs given, or as many as make `WANTED_STEPS` optimiser steps, from `FEWEST_EPOCHS` to `MOST_EPOCHS`.

    More than that where `first_epochs`, which have smaller global batches, would leave few to the full one; and before
    a cyclic schedule a few more, so that every cycle has whole epochs. `steps_of` gives the steps of so many epochs.
    """
    if epochs != "auto":
        return epochs
    fewest = max(FEWEST_EPOCHS, _epochs_with(first_epochs))
    enough = (each for each in count(fewest) if each >= MOST_EPOCHS or steps_of(each) >= WANTED_STEPS)
    return next(each for each in enough if _cycles_fit(config, each))


def choose_warmup(config: OptimizerConfig, epochs: int) -> float:
    """Warm-up given, or a tenth of the training, in epochs; before a cyclic schedule, whole ones."""
    if config.warmup_epochs != "auto":
        return config.warmup_epochs
    warmup = WARMUP_SHARE * epochs
    return float(math.ceil(warmup)) if config.schedule == "cyclic" else warmup


def _cycles_fit(config: OptimizerConfig, epochs: int) -> bool:
    after_warmup = math.floor(epochs - choose_warmup(config, epochs))
    return config.schedule != "cyclic" or (after_warmup > 0 and after_warmup % config.cycles == 0)


def rate_warning(optimizer: OptimizerName, peak_lr: float, kind: NetworkKind) -> str:
    """What to expect of a peak at which the optimiser was seen to fail on such a network; '' below it."""
    usual = _usual(optimizer, kind)
    if peak_lr <= FAR_ABOVE * usual.largest:
        return ""
    return (
        f"{optimizer} seldom trains {_IN_WORDS[kind]} at a learning rate of {peak_lr:.3g}; "
        f"lower base_lr, or leave it and lr_scaling at auto, which go up to {usual.largest:g}"
    )


def expected_loss_of_auc(steps: int, kind: NetworkKind) -> float:
    """Mean AUC that so many optimiser steps in all cost beside a small batch, as measured on phantom films.

    Interpolated by the logarithm of the steps between those measured; the outermost hold beyond.
    """
    measured = _LOSS_OF_AUC[kind]
    return float(np.interp(math.log(steps), [math.log(steps) for steps, _ in measured], [loss for _, loss in measured]))


def _usual(optimizer: OptimizerName, kind: NetworkKind) -> _BaseRate:
    return _BASE_RATES[_SAME_RATES.get(optimizer, optimizer)][kind]


_IN_WORDS: dict[NetworkKind, str] = {
    "normalised": "a network with normalisation",
    "pretrained": "pre-trained weights without normalisation",
    "plain": "random weights without normalisation",
}


def _in_words(base_lr: float, base_batch: int, scaling: Scaling, global_batch: int) -> str:
    ratio = f"{global_batch} / {base_batch}"
    factor = {"linear": f" x {ratio}", "sqrt": f" x sqrt({ratio})", "none": ", not scaled"}[scaling]
    return f"{base_lr:g}{factor}"
