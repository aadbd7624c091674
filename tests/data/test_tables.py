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


def test_a_long_cell_does_not_widen_all_others(tmp_path: Path) -> None:
    """Of 700 KB, whose names would take 10 GB: numpy stores each text at the length of the longest."""
    rows = ["a" * 130_000, *(f"{number}.png" for number in range(20_000))]
    (tmp_path / "labels.csv").write_text("\n".join(["name", *rows]))
    with pytest.raises(UserError, match="row 2 has a cell of 130,000 letters, the limit is 1,000; fix the row"):
        list(read_rows(tmp_path / "labels.csv", ("name",)))


def test_cells_and_rows_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_COLUMN", 20_000)
    (tmp_path / "labels.csv").write_text("\n".join(["name", "a" * 900, *["b"] * 20]))
    assert len(list(read_rows(tmp_path / "labels.csv", ("name",)))) == 21
    (tmp_path / "labels.csv").write_text("\n".join(["name", "a" * 900, *["b"] * 30]))
    with pytest.raises(UserError, match="over 23 rows and a cell of 900 letters"):
        list(read_rows(tmp_path / "labels.csv", ("name",)))


def test_long_cells_of_other_columns_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(f"name,report\na.png,{'word ' * 1000}\n")
    assert list(read_rows(tmp_path / "labels.csv", ("name",))) == [(2, ["a.png"])]


def test_a_header_with_line_breaks_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text('name,"find\ning"\n')
    with pytest.raises(UserError, match="lacks the columns finding; it has name, find ing"):
        list(read_rows(tmp_path / "labels.csv", ("name", "finding")))
