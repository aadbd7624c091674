"""Secrets for ranks whose environment others can read: in a file that only this user can."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from radflow.secrets import holds_secret

SECRETS_VARIABLE = "RADFLOW_SECRETS_FILE"
"""Variable of a rank's environment: the file that holds the rest of it."""


@contextmanager
def secrets_in_file(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield the environment without its secrets, which are in a file while the block lasts."""
    secrets = {name: value for name, value in environment.items() if holds_secret(name, value)}
    with tempfile.NamedTemporaryFile("w", prefix="radflow-", suffix=".json", encoding="utf-8") as file:
        json.dump(secrets, file)
        file.flush()
        harmless = {name: value for name, value in environment.items() if name not in secrets}
        yield {**harmless, SECRETS_VARIABLE: file.name}


def take_secrets() -> None:
    """Put the secrets that the launcher has left in a file for this rank into its environment."""
    path = os.environ.pop(SECRETS_VARIABLE, None)
    if path:
        os.environ.update(json.loads(Path(path).read_text(encoding="utf-8")))
