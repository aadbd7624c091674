"""Films, archives of them and TFRecord files, as small as they can be."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.mutated_files.small_file import SmallFile
from radflow.data.decoding import StoredFilm
from radflow.data.images.film import BadFilm, decode_film
from radflow.data.readers.archives import films_in_archive
from radflow.data.readers.precut_ddsm import ARRAYS, CROP_SIDE, PrecutCrop, PrecutDdsm
from radflow.data.readers.tfrecord import BadRecord, masked_checksum, parse_example, read_records

FILMS = ("a.png", "b.png", "c.png")


def made_film(side: int = 24) -> np.ndarray:
    """A grey film with smooth and noisy parts, uint8."""
    noise = np.random.default_rng(0).integers(0, 40, (side, side))
    return (np.add.outer(np.arange(side), np.arange(side)) * 100 // side + noise).astype(np.uint8)


def encoded(form: str, film: np.ndarray, **options: Any) -> bytes:
    """A film in a format of Pillow's."""
    content = io.BytesIO()
    Image.fromarray(film).save(content, form, **options)
    return content.getvalue()


def dicom(syntax: str = "1.2.840.10008.1.2.1") -> bytes:
    """A DICOM film of 16 bits; with RLE or JPEG 2000 by the transfer syntax."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = SecondaryCaptureImageStorage
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = UID("2.25.1")
    film.Rows = film.Columns = 64
    film.SamplesPerPixel, film.PhotometricInterpretation, film.PixelRepresentation = 1, "MONOCHROME2", 0
    film.BitsAllocated, film.BitsStored, film.HighBit = 16, 12, 11
    film.RescaleSlope, film.RescaleIntercept, film.WindowCenter, film.WindowWidth = "1", "-10", "1024", "2000"
    film.PixelData = (made_film(64).astype(np.uint16) * 16).tobytes()
    film["PixelData"].VR = "OW"
    if UID(syntax).is_compressed:
        film.compress(UID(syntax), generate_instance_uid=False)
    content = io.BytesIO()
    film.save_as(content, enforce_file_format=True)
    return content.getvalue()


def _right_png(content: bytes, path: Path) -> None:
    """Mend the CRC of every chunk that can still be found."""
    fixed, place = bytearray(content), 8
    while place + 12 <= len(fixed):
        length = int.from_bytes(fixed[place : place + 4], "big")
        end = place + 8 + length
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = zlib.crc32(fixed[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    path.write_bytes(fixed)


def _decode(path: Path) -> None:
    film = decode_film(path.read_bytes(), path.name)
    if film.dtype != np.uint8 or film.ndim != 2:
        raise AssertionError(f"a film is {film.dtype} {film.shape}")


def tar() -> bytes:
    """Films, one of them behind a long name, and what is refused."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("images/a.png", f"images/{'long/' * 40}b.png", "images/c.png"):
            member = tarfile.TarInfo(name)
            film = encoded("PNG", made_film(16))
            member.size = len(film)
            archive.addfile(member, io.BytesIO(film))
        link = tarfile.TarInfo("images/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return content.getvalue()


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in FILMS:
            archive.writestr(zipfile.ZipInfo(f"images/{name}"), encoded("PNG", made_film(16)))
    return content.getvalue()


def _gzipped(content: bytes, path: Path) -> None:
    path.write_bytes(gzip.compress(content, 1, mtime=0))


def _read_archive(path: Path) -> None:
    for item in films_in_archive(path, frozenset(FILMS)):
        if isinstance(item, StoredFilm) and not isinstance(item.content, bytes):
            raise AssertionError("a film without bytes")


def records() -> bytes:
    """A TFRecord file of three small examples, made by hand: a feature of bytes and one of an integer."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    def feature(name: bytes, values: bytes) -> bytes:
        return field(1, field(1, name) + field(2, values))

    content = b""
    for label in range(3):
        image = feature(b"image", field(1, field(1, bytes(range(60)))))
        example = field(1, image + feature(b"label", field(3, bytes([8, label]))))
        length = struct.pack("<Q", len(example))
        content += length + struct.pack("<I", masked_checksum(length))
        content += example + struct.pack("<I", masked_checksum(example))
    return content


def _right_records(content: bytes, path: Path) -> None:
    """Mend the checksums of every record that can still be found."""
    fixed, place = bytearray(content), 0
    while place + 16 <= len(fixed):
        length = int.from_bytes(fixed[place : place + 8], "little")
        fixed[place + 8 : place + 12] = struct.pack("<I", masked_checksum(bytes(fixed[place : place + 8])))
        end = place + 12 + length
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = struct.pack("<I", masked_checksum(bytes(fixed[place + 12 : end])))
        place = end + 4
    path.write_bytes(fixed)


def _read_records(path: Path) -> None:
    reasons = []
    for record in read_records(path):
        if isinstance(record.content, BadRecord):
            reasons.append(record.content)
            continue
        try:
            parse_example(record.content)
        except BadRecord as reason:
            reasons.append(reason)
    if reasons:
        raise reasons[0]


def array(values: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, values)
    return content.getvalue()


_LABELS, _PIXELS = array(np.arange(3)), array(np.zeros((3, CROP_SIDE, CROP_SIDE, 1), np.uint8))
_HEADER = 128


def _write_precut(labels: bytes, path: Path, pixels: bytes = _PIXELS) -> None:
    """The pre-cut DDSM with mutated labels."""
    (path.parent / "training10_0.tfrecords").write_bytes(records())
    for part in ARRAYS:
        (path.parent / f"{part}_labels.npy").write_bytes(labels)
        (path.parent / f"{part}_data.npy").write_bytes(pixels)


def _write_precut_pixels(header: bytes, path: Path) -> None:
    """The pre-cut DDSM with a mutated header of its pixels."""
    _write_precut(_LABELS, path, header + _PIXELS[_HEADER:])


def _read_precut(path: Path) -> None:
    for crop in PrecutDdsm.at(path.parent).crops():
        if isinstance(crop, PrecutCrop):
            with suppress(BadFilm):
                crop.read()


def film_files() -> dict[str, SmallFile]:
    """Kinds by name."""
    png, deep = encoded("PNG", made_film()), encoded("PNG", made_film().astype(np.uint16) * 256)
    return {
        "PNG": SmallFile("film.png", png, _decode),
        "PNG, CRCs right": SmallFile("film.png", png, _decode, _right_png, weight=8),
        "PNG of 16 bits, CRCs right": SmallFile("film.png", deep, _decode, _right_png),
        "JPEG": SmallFile("film.jpg", encoded("JPEG", made_film()), _decode, weight=8),
        "PGM": SmallFile("film.pgm", encoded("PPM", made_film()), _decode),
        "DICOM": SmallFile("film.dcm", dicom(), _decode, weight=8),
        "DICOM, RLE": SmallFile("film.dcm", dicom("1.2.840.10008.1.2.5"), _decode),
        "DICOM, JPEG 2000": SmallFile("film.dcm", dicom("1.2.840.10008.1.2.4.90"), _decode),
        "tar.gz": SmallFile("i.tar.gz", gzip.compress(tar(), 1, mtime=0), _read_archive),
        "tar in whole gzip": SmallFile("i.tar.gz", tar(), _read_archive, _gzipped, weight=8),
        "zip": SmallFile("i.zip", zipped(), _read_archive, weight=8),
        "TFRecord": SmallFile("a.tfrecords", records(), _read_records),
        "TFRecord, checksums right": SmallFile("a.tfrecords", records(), _read_records, _right_records),
        "labels of the pre-cut DDSM": SmallFile("test10_labels.npy", _LABELS, _read_precut, _write_precut),
        "pixels of the pre-cut DDSM": SmallFile(
            "test10_data.npy", _PIXELS[:_HEADER], _read_precut, _write_precut_pixels
        ),
    }
