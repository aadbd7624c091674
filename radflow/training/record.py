"""What a run keeps of how it was started, so that it can be repeated: its settings, and the software that it ran on."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from radflow.config import flatten
from radflow.errors import UserError
from radflow.files import read_yaml
from radflow.tracking.tracked_run import TrackedRun
from radflow.training.config import DistributedConfig, TrainConfig, TrainingConfig

ENTRY_TAG = "radflow.entry"
"""Tag of a run with the entry point that repeats it."""
CONFIG_FILE, ENVIRONMENT_FILE = "config.yaml", "environment.txt"
"""Names of a run's artefacts: its settings, and the packages that were installed, a name==version a line."""
NOT_REPEATED = ("config", "resume", "out")
"""Settings of where a run is written and what it goes on from."""


def record_start(config: TrainingConfig, weights: str, run: TrackedRun) -> None:
    """Log the settings of a training, with its initial weights by a name that stays theirs, and the packages."""
    settings = {name: value for name, value in flatten(config).items() if name not in NOT_REPEATED}
    run.set_tags({ENTRY_TAG: "distributed" if isinstance(config, DistributedConfig) else "train"})
    run.log_text(yaml.safe_dump({**settings, "weights": weights}, sort_keys=False), CONFIG_FILE)
    run.log_text("".join(f"{name}=={version}\n" for name, version in installed_packages().items()), ENVIRONMENT_FILE)


def installed_packages() -> dict[str, str]:
    """Version of every package of this Python environment, by name."""
    found = {str(each.metadata["Name"]).lower().replace("_", "-"): each.version for each in metadata.distributions()}
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class RecordedStart:
    """How a run was started."""

    config: type[TrainConfig] | type[DistributedConfig]
    settings: dict[str, Any]
    packages: dict[str, str]


def read_start(entry: str, config_file: Path, environment_file: Path) -> RecordedStart:
    """Read what `record_start` logged; raises UserError where it is not that."""
    configs: dict[str, type[TrainConfig] | type[DistributedConfig]] = {
        "train": TrainConfig,
        "distributed": DistributedConfig,
    }
    try:
        settings = read_yaml(config_file)
        lines = environment_file.read_text(encoding="utf-8").split()
        packages = dict(line.split("==", 1) for line in lines)
        return RecordedStart(configs[entry], dict(settings), packages)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"the run's {CONFIG_FILE} or {ENVIRONMENT_FILE} is damaged ({error!r})") from error


def package_changes(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Packages whose versions differ, in words."""
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    return [f"{name} {before.get(name, 'absent')}, now {now.get(name, 'absent')}" for name in names]
