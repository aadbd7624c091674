"""TFRecord files and the `tf.train.Example` messages in them, read without TensorFlow.

TensorFlow's own reader ends at the first damaged record, and needs TensorFlow in every worker process. The framing is
that of tensorflow/core/lib/io/record_writer.h: length (uint64), masked CRC32C of the length, content, masked CRC32C of
the content; all little-endian.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from radflow.files import open_regular

MAX_RECORD_BYTES = 64 * 2**20
"""Longest record that is read into memory."""

_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8


class BadRecord(ValueError):  # noqa: N818  (the record is bad; the program is not in error)
    """A record that cannot be used; the text is the reason."""


class LostRecords(BadRecord):
    """Neither this record nor any after it can be found: the file ends, or its length is damaged."""


@dataclass(frozen=True)
class Record:
    """A record's place in its file and its content, or why that cannot be used."""

    number: int
    """Number in the file, from 0."""
    offset: int
    content: bytes | BadRecord


def read_records(path: Path) -> Iterator[Record]:
    """Read a file from begin to end, damaged records included; raises OSError where it cannot be read."""
    with open_regular(path) as file:
        number, size = 0, path.stat().st_size
        while (offset := file.tell()) < size:
            try:
                content: bytes | BadRecord = _read_next(file, size)
            except BadRecord as error:
                content = error
            yield Record(number, offset, content)
            if isinstance(content, LostRecords):
                return
            number += 1


def read_record(path: Path, offset: int) -> bytes:
    """Read the content of the record at a place that `read_records` found; raises `BadRecord`."""
    with open_regular(path) as file:
        file.seek(offset)
        return _read_next(file, path.stat().st_size)


def parse_example(content: bytes) -> dict[str, list[Any]]:
    """Values of each feature of a `tf.train.Example`: bytes, float or int; raises `BadRecord` for other bytes."""
    try:
        example = _example_type().FromString(content)
    except message.DecodeError as error:
        raise BadRecord(f"no tf.train.Example: {error}") from error
    return {name: list(getattr(feature, feature.WhichOneof("kind")).value) if feature.WhichOneof("kind") else []
            for name, feature in example.features.feature.items()}  # fmt: skip


def masked_checksum(content: bytes) -> int:
    """CRC32C, rotated by 15 bits and moved by a constant, as checksums of checksums would be weak."""
    checksum = google_crc32c.value(content)
    return ((checksum >> 15 | checksum << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _read_next(file: BinaryIO, size: int) -> bytes:
    """Read the record at the place of a file of `size` bytes, and move to the next one unless it is lost."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise LostRecords("truncated: the file ends inside this record")
    length, checksum = _HEADER.unpack(header)
    if checksum != masked_checksum(header[:8]):
        raise LostRecords("damaged length: this record and all after it cannot be found")
    if length + _CHECKSUM.size > size - file.tell():  # asked before room is made for it
        raise LostRecords("truncated: the file ends inside this record")
    if length > MAX_RECORD_BYTES:
        file.seek(length + _CHECKSUM.size, os.SEEK_CUR)
        raise BadRecord(f"{length:,} bytes, the limit is {MAX_RECORD_BYTES:,}")
    content, ending = file.read(length), file.read(_CHECKSUM.size)
    if len(ending) < _CHECKSUM.size:
        raise LostRecords("truncated: the file ends inside this record")
    if _CHECKSUM.unpack(ending)[0] != masked_checksum(content):
        raise BadRecord("damaged: wrong checksum")
    return content


@cache
def _example_type() -> type[Any]:
    """Describe tensorflow/core/example/{example,feature}.proto to protobuf, in a pool apart from TensorFlow's own."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="radflow", syntax="proto3")

    def add(name: str, *fields: tuple[str, int, int, str | None]) -> Any:
        described = file.message_type.add(name=name)
        for number, (field_name, label, kind, type_name) in enumerate(fields, start=1):
            described.field.add(name=field_name, number=number, label=label, type=kind, type_name=type_name)
        return described

    one, many, of_message = field.LABEL_OPTIONAL, field.LABEL_REPEATED, field.TYPE_MESSAGE
    add("BytesList", ("value", many, field.TYPE_BYTES, None))
    add("FloatList", ("value", many, field.TYPE_FLOAT, None))
    add("Int64List", ("value", many, field.TYPE_INT64, None))
    lists = (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List"))
    feature = add("Feature", *((name, one, of_message, f".radflow.{kind}") for name, kind in lists))
    feature.oneof_decl.add(name="kind")
    for described in feature.field:
        described.oneof_index = 0
    features = add("Features", ("feature", many, of_message, ".radflow.Features.FeatureEntry"))
    entry = features.nested_type.add(name="FeatureEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    entry.field.add(name="key", number=1, label=one, type=field.TYPE_STRING)
    entry.field.add(name="value", number=2, label=one, type=of_message, type_name=".radflow.Feature")
    add("Example", ("features", one, of_message, ".radflow.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("radflow.Example"))
