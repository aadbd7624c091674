"""What is classified: the task of a dataset, by which families of models are told apart."""

from __future__ import annotations

from typing import Literal, get_args

Task = Literal["chest", "mammo"]
"""Findings on chest films, or tumour against normal tissue on mammograms."""

TASKS: tuple[Task, ...] = get_args(Task)

ImageUnit = Literal["films", "crops", "breasts"]
"""What an image shows: a whole film, a piece of a mammogram, or its breast."""

OTHER = "other"
"""Task of a dataset that no registered family is for."""
