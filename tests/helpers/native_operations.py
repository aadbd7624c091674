"""The native operations, compiled where the environment has none yet."""

from __future__ import annotations

import pytest

from radflow.native import library


@pytest.fixture(scope="session")
def native() -> None:
    if not library.library_path().exists():
        library.build()
    library.operations.cache_clear()
    assert library.operations() is not None


@pytest.fixture
def without_native(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(library.SWITCH, "0")
    library.operations.cache_clear()
    yield
    library.operations.cache_clear()
