"""The library of native operations: where it is, and what a user is told who has none."""

from __future__ import annotations

from pathlib import Path

import pytest
from native_operations import without_native  # noqa: F401 - a fixture

from radflow.errors import JobError, UserError
from radflow.native import library


@pytest.fixture
def other_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of sources of its own, and an environment of its own to build into."""
    monkeypatch.setattr(library, "_FOLDER", tmp_path)
    monkeypatch.setattr("sys.prefix", str(tmp_path / "environment"))
    monkeypatch.setenv("RADFLOW_CACHE", str(tmp_path / "cache"))
    (tmp_path / "operations.cc").write_text("int answer() { return 42; }\n", encoding="utf-8")
    return tmp_path


def test_other_sources_are_another_library(other_sources: Path) -> None:
    before = library.library_path()
    (other_sources / "operations.cc").write_text("int answer() { return 43; }\n", encoding="utf-8")
    assert library.library_path() != before


def test_a_missing_compiler_is_told_with_its_fix(other_sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"no-such-compiler not found; install .* or name one by CXX"):
        library.build()


def test_what_does_not_compile_leaves_nothing_and_is_told_in_a_line(other_sources: Path) -> None:
    (other_sources / "operations.cc").write_text("int answer() { return; }\n", encoding="utf-8")
    with pytest.raises(JobError, match=r"operations\.cc:1:.*error") as told:
        library.build()
    assert "\n" not in str(told.value)
    assert list(library.library_path().parent.iterdir()) == []


def test_a_second_environment_compiles_nothing(other_sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = library.build().read_bytes()
    monkeypatch.setattr("sys.prefix", str(other_sources / "second environment"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    second = library.build()
    assert second.is_relative_to(other_sources / "second environment")
    assert second.read_bytes() == built


def test_what_is_cached_and_does_not_load_here_is_compiled_again(other_sources: Path) -> None:
    built = library.build().read_bytes()
    (kept,) = (other_sources / "cache" / "native").iterdir()
    kept.write_bytes(b"built on a machine with a newer C library")
    assert library.build().read_bytes() == built
    assert kept.read_bytes() == built


def test_a_cache_that_cannot_be_written_costs_the_next_environment_time_alone(other_sources: Path) -> None:
    (other_sources / "cache").write_text("a file where a folder should be", encoding="utf-8")
    assert library.build().exists()


def test_without_a_library_there_are_no_operations(other_sources: Path) -> None:
    library.operations.cache_clear()
    assert library.operations() is None
    library.operations.cache_clear()


def test_a_library_that_does_not_load_is_told_and_done_without(
    other_sources: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = library.library_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no library")
    library.operations.cache_clear()
    assert library.operations() is None
    assert "does not load" in caplog.text
    assert "python -m radflow build" in caplog.text
    library.operations.cache_clear()


@pytest.mark.usefixtures("without_native")
def test_it_can_be_switched_off() -> None:
    assert library.operations() is None
