"""What is classified: the task of a dataset, by which families of models are told apart."""

from __future__ import annotations

import re
from typing import Literal

CHEST, MAMMO, BREAST, OTHER = "chest", "mammo", "breast", "other"
"""Findings on chest films; tumour against normal tissue on crops; findings of whole breasts; anything."""

ImageUnit = Literal["films", "crops", "breasts"]
"""What an image shows: a whole film, a piece of a mammogram, or its breast."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


def is_task(name: str) -> bool:
    """Whether a text may name a task: it becomes a part of the names of registered models."""
    return _NAME.fullmatch(name) is not None
