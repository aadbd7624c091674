"""Spools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from radflow.tracking.spool import RunAddress, Spool


@pytest.fixture
def open_spool(tmp_path: Path) -> Iterator[Callable[[], Spool]]:
    """Opens the spool of one run under tmp_path, as often as asked; all are let go at the end."""
    opened: list[Spool] = []

    def open_again() -> Spool:
        opened.append(Spool(tmp_path, RunAddress("sqlite:///mlflow.db", "0123456789abcdef")))
        return opened[-1]

    yield open_again
    for spool in opened:
        spool.close(keep=True)
