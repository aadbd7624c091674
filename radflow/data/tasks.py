"""What is classified: the task of a data set, by which families of models are told apart."""

from __future__ import annotations

from typing import Literal, get_args

Task = Literal["chest", "mammo"]
"""Findings on chest films, or tumour against normal tissue on mammograms."""

TASKS: tuple[Task, ...] = get_args(Task)

OTHER = "other"
"""Task of a data set that no registered family is for."""
