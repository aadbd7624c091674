from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from radflow.errors import UserError
from radflow.files import (
    append_lines,
    atomic_file,
    atomic_folder,
    check_temporary_folder,
    check_writable,
    open_regular,
    read_json,
    read_yaml,
    sha256_file,
)


def test_an_atomic_file_appears_only_when_whole(tmp_path):
    target = tmp_path / "deep" / "table.csv"
    with atomic_file(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_or_missing_temporary_folder_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    check_temporary_folder(1)
    with pytest.raises(UserError, match=rf"TMPDIR={tmp_path} has [\d,]+ bytes free, expected at least 1,152,921,504"):
        check_temporary_folder(2**60)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"absent cannot be used: No such file or directory; set TMPDIR"):
        check_temporary_folder(1)


def test_an_atomic_folder_replaces_the_old_one_as_a_whole(tmp_path):
    target = tmp_path / "set"
    for name in ("first", "second"):
        with atomic_folder(target) as temporary:
            (temporary / name).write_text(name)
    assert [path.name for path in target.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    target = tmp_path / "set"
    target.mkdir()
    (target / "kept").write_text("kept")
    with pytest.raises(RuntimeError), atomic_folder(target) as temporary:
        (temporary / "half").write_text("half")
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["kept"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "disk" / "set").mkdir(parents=True)
    (tmp_path / "disk" / "table.csv").write_text("old")
    (tmp_path / "set").symlink_to(tmp_path / "disk" / "set")
    (tmp_path / "table.csv").symlink_to(tmp_path / "disk" / "table.csv")
    with atomic_folder(tmp_path / "set") as temporary:
        (temporary / "new").write_text("new")
    with atomic_file(tmp_path / "table.csv") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "set").is_symlink()
    assert (tmp_path / "table.csv").is_symlink()
    assert [path.name for path in (tmp_path / "disk" / "set").iterdir()] == ["new"]
    assert (tmp_path / "disk" / "table.csv").read_text() == "new"
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["set", "table.csv"]


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "film").write_bytes(b"radiograph" * 1000)
    assert sha256_file(tmp_path / "film") == hashlib.sha256(b"radiograph" * 1000).hexdigest()


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path):
    check_writable(tmp_path / "new" / "table.csv")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        check_writable(tmp_path / "file" / "table.csv")
    with pytest.raises(UserError, match="is a folder"):
        check_writable(tmp_path)


@pytest.mark.parametrize("read", [open_regular, sha256_file, read_json, read_yaml])
def test_only_regular_files_are_opened(tmp_path: Path, read) -> None:
    """A pipe without a writer would be waited for without end."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            read(path)


@pytest.mark.parametrize("read", [read_json, read_yaml])
@pytest.mark.parametrize("content", [b"[" * 100_000, b"{", b"\xff", b'"\x00'])
def test_what_is_no_document_is_a_value_error_of_one_line(tmp_path: Path, read, content: bytes) -> None:
    (tmp_path / "document").write_bytes(content)
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        read(tmp_path / "document")


def test_yaml_that_is_no_date_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("out: 2020-99-99")
    with pytest.raises(ValueError, match="month must be in"):
        read_yaml(tmp_path / "a.yaml")


def test_a_document_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radflow.files.MAX_DOCUMENT_BYTES", 10)
    (tmp_path / "a.json").write_text("[1,2,3,4,5,6]")
    with pytest.raises(OSError, match="over 10 bytes"):
        read_json(tmp_path / "a.json")


def test_lines_after_a_torn_one_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_lines(path, ["first", "second"])
    with path.open("a") as file:
        file.write("ha")
    append_lines(path, ["fourth"])
    append_lines(path, [])
    assert path.read_text() == "first\nsecond\nha\nfourth\n"
