from __future__ import annotations

import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfrecord_folder import example, write_records

from radflow.data.readers.tfrecord import (
    BadRecord,
    LostRecords,
    masked_checksum,
    parse_example,
    read_record,
    read_records,
)

CONTENTS = [b"first", b"", b"third" * 100]


def test_checksum_of_the_standard() -> None:
    """CRC32C of "123456789" is E3069283 (RFC 3720, B.4; the catalogue of parametrised CRC algorithms)."""
    rotated = 0xE3069283 >> 15 | (0xE3069283 << 17) & 0xFFFFFFFF
    assert masked_checksum(b"123456789") == (rotated + 0xA282EAD8) % 2**32


def test_what_tensorflow_writes_is_read_back(tmp_path: Path) -> None:
    path = write_records(tmp_path / "a.tfrecords", CONTENTS)
    records = list(read_records(path))
    assert [(record.number, record.content) for record in records] == list(enumerate(CONTENTS))
    assert [read_record(path, record.offset) for record in records] == CONTENTS


def outcomes(path: Path) -> list[bytes | str]:
    contents = [record.content for record in read_records(path)]
    return [str(content) if isinstance(content, BadRecord) else content for content in contents]


def test_a_damaged_record_leaves_the_others(tmp_path: Path) -> None:
    path = write_records(tmp_path / "a.tfrecords", CONTENTS)
    content = bytearray(path.read_bytes())
    content[14] ^= 1
    path.write_bytes(content)
    assert outcomes(path) == ["damaged: wrong checksum", *CONTENTS[1:]]


def test_after_a_damaged_length_all_is_lost(tmp_path: Path) -> None:
    path = write_records(tmp_path / "a.tfrecords", CONTENTS)
    content = bytearray(path.read_bytes())
    content[16 + len(CONTENTS[0])] ^= 1
    path.write_bytes(content)
    assert outcomes(path) == [CONTENTS[0], "damaged length: this record and all after it cannot be found"]


@given(kept=st.integers(0, 16 * 3 + 505 - 1))
def test_of_a_truncated_file_whole_records_are_kept(kept: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "truncated.tfrecords"
    write_records(path, CONTENTS)
    path.write_bytes(path.read_bytes()[:kept])
    ends = [21, 37, 553]
    whole = sum(end <= kept for end in ends)
    expected: list[bytes | str] = list(CONTENTS[:whole])
    if kept not in (0, *ends):
        expected.append("truncated: the file ends inside this record")
    assert outcomes(path) == expected


def test_a_record_that_would_fill_the_memory_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_records(tmp_path / "a.tfrecords", CONTENTS)
    monkeypatch.setattr("radflow.data.readers.tfrecord.MAX_RECORD_BYTES", 400)
    assert outcomes(path) == [*CONTENTS[:2], "500 bytes, the limit is 400"]
    with pytest.raises(LostRecords):
        read_record(path, path.stat().st_size - 3)


def test_features_of_tensorflow_s_message() -> None:
    assert parse_example(example(b"pixels", 3)) == {"image": [b"pixels"], "label": [3], "label_normal": [1]}
    assert parse_example(b"") == {}


@given(content=st.binary(max_size=60))
def test_any_bytes_are_features_or_refused(content: bytes) -> None:
    with suppress(BadRecord):
        assert isinstance(parse_example(content), dict)


def test_room_is_made_for_a_record_only_where_the_file_holds_it(tmp_path: Path) -> None:
    length = (60 * 2**20).to_bytes(8, "little")
    path = tmp_path / "a.tfrecords"
    path.write_bytes(length + masked_checksum(length).to_bytes(4, "little") + b"pixels")
    tracemalloc.start()
    try:
        assert outcomes(path) == ["truncated: the file ends inside this record"]
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
