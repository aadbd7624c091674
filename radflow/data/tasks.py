"""What is classified: the task that a data set's findings make, by which families of models are told apart."""

from __future__ import annotations

from typing import Literal, get_args

from radflow.data.crops.mammograms import TUMOUR_FINDINGS
from radflow.data.readers.findings import FINDINGS

Task = Literal["chest", "mammo"]
"""Findings on chest films, or tumour against normal tissue on mammograms."""

TASKS: tuple[Task, ...] = get_args(Task)

OTHER = "other"
"""Of findings that no registered family is for."""


def task_of(findings: tuple[str, ...]) -> str:
    """The task that these findings make: chest, mammo or other."""
    known: dict[tuple[str, ...], str] = {FINDINGS: "chest", TUMOUR_FINDINGS: "mammo"}
    return known.get(tuple(findings), OTHER)
