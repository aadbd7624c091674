from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from radflow.data import tables
from radflow.data.tables import read_rows, read_text
from radflow.errors import UserError

TEXT = "name,finding\na.png,Mass\nb.png,Ödem\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf_8_with_and_without_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "labels.csv").write_bytes(TEXT.encode(encoding))
    rows = list(read_rows(tmp_path / "labels.csv", ("finding", "name")))
    assert rows == [(2, ["Mass", "a.png"]), (3, ["Ödem", "b.png"])]


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("latin-1", "row 3 has a byte that is not UTF-8; save the file as UTF-8"),
        ("utf-16", "is UTF-16 or no text, expected UTF-8"),
        ("utf-16-le", "is UTF-16 or no text, expected UTF-8"),
        ("utf-32", "is UTF-16 or no text, expected UTF-8"),
    ],
)
def test_other_encodings_are_one_line(tmp_path: Path, encoding: str, message: str) -> None:
    (tmp_path / "labels.csv").write_bytes(TEXT.encode(encoding))
    with pytest.raises(UserError, match=message):
        read_text(tmp_path / "labels.csv")


@pytest.mark.parametrize("name", ["labels.csv", "labels.csv.gz"])
def test_a_file_without_end_is_read_no_further(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_LABEL_BYTES", 1000)
    content = b"a" * 1001
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(UserError, match="holds over 1,000 bytes, as no label file does"):
        read_text(tmp_path / name)


def test_a_damaged_gzip_is_one_line(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(TEXT.encode() * 50))
    content[20] ^= 255
    (tmp_path / "labels.csv.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"labels\.csv\.gz cannot be read"):
        read_text(tmp_path / "labels.csv.gz")
