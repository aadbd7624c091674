"""What a network is to answer: labels as numbers, and what is made of those that are uncertain or unknown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from radflow.data.dataset.shards import FilmTable
from radflow.training.loss_config import UncertainRule, rules_of_findings

TARGETS: dict[UncertainRule, float] = {"ignore": np.nan, "zeros": 0.0, "ones": 1.0, "soft": 0.7}
"""Soft is the middle of the range from .55 to .85 of which Pham et al. 2021 draw (arXiv:1911.06475, section 3.3)."""


def training_targets(table: FilmTable, findings: Sequence[str], uncertain: str) -> NDArray[np.float32]:
    """Targets [images, findings] from 0 to 1; NaN where a label teaches nothing.

    `uncertain` says what is made of labels that are said to be possible, as `LossConfig.uncertain`; of others that are
    not known nothing is made. Raises `UserError` for a finding that the dataset has not.
    """
    rules = rules_of_findings(uncertain, findings)
    of_uncertain = np.array([TARGETS[rule] for rule in rules], np.float32)
    targets = np.where(table.known, table.labels.astype(np.float32), np.float32(np.nan))
    return np.where(table.uncertain, of_uncertain, targets)


def prevalences(targets: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean target of each finding, [findings]; 0 for one that teaches nothing."""
    taught = ~np.isnan(targets)
    return np.nansum(targets, axis=0, dtype=np.float64) / np.maximum(taught.sum(axis=0), 1)
