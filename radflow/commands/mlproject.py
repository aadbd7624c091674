"""`make mlproject`: the MLproject file, made of the entry points' settings so that they are written down once."""

from __future__ import annotations

import sys
import textwrap
from typing import Any

import yaml

from radflow.commands import SETTINGS, settings_of
from radflow.config import flatten, types_of

HEAD = """\
name: radflow

# Made by `make mlproject` from the dataclasses of the settings: change those, not this file.
# `make setup` builds this environment and registers it with MLflow, so that plain `mlflow run . -e ENTRY` works.
# conda users: `conda env create -f conda.yaml`, activate it, and add `--env-manager local` to each command.
python_env: python_env.yaml

entry_points:
"""
MAIN = "train"
"""The entry point that `mlflow run .` runs without -e."""
WIDTH = 120


def mlproject() -> str:
    """Text of the MLproject file."""
    parts = [_entry_point(name, called) for name, called in [("main", MAIN), *((name, name) for name in SETTINGS)]]
    return HEAD + "\n".join(parts)


def _entry_point(name: str, program: str) -> str:
    settings = settings_of(program)
    defaults, types = flatten(settings()), types_of(settings)
    lines = [f"  {name}:", "    parameters:"]
    lines += [f"      {setting}: {_parameter(types[setting], value)}" for setting, value in defaults.items()]
    command = f"python -m entrypoints.{program} " + " ".join(f"--{setting}={{{setting}}}" for setting in defaults)
    indent = " " * 6
    wrapped = textwrap.wrap(
        command, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
    return "\n".join([*lines, "    command: >-", *wrapped]) + "\n"


def _parameter(hint: Any, default: Any) -> str:
    """Type and default as a YAML mapping in one line; MLflow has no type for true/false and for choices."""
    kind = {int: "int", float: "float"}.get(hint, "string")
    value = str(default).lower() if isinstance(default, bool) else default
    text: str = yaml.safe_dump({"type": kind, "default": value}, default_flow_style=True, sort_keys=False, width=WIDTH)
    return text.strip()


if __name__ == "__main__":
    sys.stdout.write(mlproject())
