"""How a training that diverged says so, which whoever started it can recognise."""

from __future__ import annotations

_NOT_FINITE = "the loss is not finite in"
DIVERGED = _NOT_FINITE + " {}, at learning rate {:.3g}; lower base_lr or lengthen warmup_epochs"
"""Message with the place and the learning rate to be filled in."""


def is_divergence(message: str) -> bool:
    """Whether a training failed because its loss was not finite."""
    return _NOT_FINITE in message
