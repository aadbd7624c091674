"""One module per entry point or tool: reads its settings, and calls the rooms below."""

from __future__ import annotations

from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any

from radflow.config import run_command

SETTINGS = {
    "sample": "radflow.data.sample:SampleConfig",
    "preprocess": "radflow.data.config:PreprocessConfig",
    "train": "radflow.training.config:TrainConfig",
    "distributed": "radflow.training.config:DistributedConfig",
    "transfer": "radflow.transfer.config:TransferConfig",
    "search": "radflow.search.config:SearchConfig",
    "study": "radflow.studies.config:StudyConfig",
    "evaluate": "radflow.inference.config:EvaluateConfig",
    "ensemble": "radflow.inference.config:EnsembleConfig",
    "promote": "radflow.promotion.config:PromoteConfig",
    "predict": "radflow.inference.config:PredictConfig",
}
"""Entry points of MLproject, each with the dataclass of its settings, which is light to import.

What one does is the function of its name in the module of its name here.
"""


TOOLS = {"scale": "radflow.scaling.config:ScaleConfig"}
"""Tools that are run by their settings like entry points, and are none of MLproject."""


def settings_of(entry_point: str) -> type[Any]:
    """The dataclass whose fields are the parameters of an entry point or tool."""
    found: type[Any] = resolve_name({**SETTINGS, **TOOLS}[entry_point])
    return found


def run_entry_point(name: str, arguments: Sequence[str]) -> int:
    """Run an entry point or tool with these flags and return the process's exit code."""

    def run(config: object) -> None:
        resolve_name(f"radflow.commands.{name}:{name}")(config)

    return run_command(settings_of(name), run, arguments)
