"""The forms in which docs/serving.md says that films may be sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

FORMS: dict[str, Callable[[Sequence[object]], dict[str, Any]]] = {
    "dataframe_split": lambda films: {"dataframe_split": {"columns": ["film"], "data": [[film] for film in films]}},
    "dataframe_records": lambda films: {"dataframe_records": [{"film": film} for film in films]},
    "inputs": lambda films: {"inputs": {"film": films}},
    "inputs by film": lambda films: {"inputs": [{"film": film} for film in films]},
    "instances": lambda films: {"instances": [{"film": film} for film in films]},
}
