"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real radiographs; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("RADFLOW_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real films not found at {folder}; set RADFLOW_TEST_DATA")
    return folder


# A property that took long on a busy machine is not a wrong one.
settings.register_profile("radflow", deadline=None)
settings.load_profile("radflow")
