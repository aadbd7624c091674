"""A look at a file of weights without TensorFlow, so that a wrong one is told before any rank starts.

Weights lie in HDF5, in a `.keras` archive too, and the HDF5 library has published advisories about made-up files. So
what can be checked is checked before that library opens a file, and a process of its own reads it before Keras does.
This finds damage and bombs; it does not make a hostile file safe: files of weights must come from a trusted source.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import IO

from radflow.errors import UserError
from radflow.files import MAX_DOCUMENT_BYTES, open_regular
from radflow.models import hdf5_arrays

NO_FILE = ("none", "imagenet")
"""Values of `weights` that name no file."""

MAX_WEIGHTS_BYTES = 2 * 2**30
"""Largest file that is opened; VGG-16 with its classifier, the largest of the architectures, has 0.55 GB."""

SECONDS = 120
"""That reading a file may take; one of 0.5 GB takes one or two."""

_KERAS_DOCUMENTS = ("metadata.json", "config.json")
_KERAS_WEIGHTS = "model.weights.h5"
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SUPERBLOCK_BYTES = 52
# HDF5 File Format Specification 3.0, II.A: by version, where the widths of addresses and lengths are, and the end of
# the file.
_SUPERBLOCKS = {0: (13, 40), 1: (13, 44), 2: (9, 28), 3: (9, 28)}
_BAD_FILE = (OSError, ValueError, KeyError, EOFError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile)
"""What zipfile, json and these checks raise for damaged files."""


def check_weights_file(weights: str) -> None:
    """Raise UserError unless `weights` names no file, an HDF5 file of arrays (.h5) or a whole .keras archive.

    Of both, the signature, the size and where HDF5 says that it ends are checked before it is opened, and then that it
    holds plain arrays alone, which take no more room than the file. Of an archive too: its members and CRCs.
    """
    if weights in NO_FILE:
        return
    path = Path(weights)
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file() raises OSError for a name that is too long
        raise UserError(
            f"weights={weights} is not a file at {path.absolute()}; give none, imagenet, a .keras model, a .weights.h5 "
            "or a model in MLflow such as models:/NAME@champion"
        )
    try:
        with open_regular(path) as file:
            _check_size(path.stat().st_size)
            if path.suffix == ".keras":
                _check_keras(file)
            else:
                _check_hdf5(path)
    except _BAD_FILE as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"weights={weights} cannot be read ({reason}); give a .keras model or a .weights.h5 of the backbone"
        ) from error


def _check_keras(file: IO[bytes]) -> None:
    with zipfile.ZipFile(file) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        expected = {*_KERAS_DOCUMENTS, _KERAS_WEIGHTS}
        if sizes.keys() != expected or len(archive.infolist()) != len(expected):
            raise ValueError(f"it holds {', '.join(sizes) or 'nothing'}; expected {', '.join(sorted(expected))}")
        if max(sizes[name] for name in _KERAS_DOCUMENTS) > MAX_DOCUMENT_BYTES:
            raise ValueError(f"a description of over {MAX_DOCUMENT_BYTES:,} bytes")
        _check_size(sizes[_KERAS_WEIGHTS])
        for name in _KERAS_DOCUMENTS:
            json.loads(archive.read(name))
        with archive.open(_KERAS_WEIGHTS) as packed, tempfile.NamedTemporaryFile(suffix=".h5") as weights:
            shutil.copyfileobj(packed, weights, 2**20)  # to its end, where the CRC is compared
            weights.flush()
            _check_hdf5(Path(weights.name))


def _check_hdf5(path: Path) -> None:
    """Raise one of `_BAD_FILE` unless a file is HDF5 with plain arrays alone."""
    size = path.stat().st_size
    with path.open("rb") as file:
        _check_superblock(file.read(_SUPERBLOCK_BYTES), size)
    command = [sys.executable, "-P", hdf5_arrays.__file__, str(path), str(size)]
    try:
        read = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"the HDF5 library does not come to its end within {SECONDS} s") from error
    if read.returncode < 0:
        raise ValueError(f"the HDF5 library dies of it by {signal.Signals(-read.returncode).name}")
    if read.returncode:
        raise ValueError(read.stderr.strip().rpartition("\n")[2])


def _check_size(size: int) -> None:
    if size > MAX_WEIGHTS_BYTES:
        raise ValueError(f"{size:,} bytes, the limit is {MAX_WEIGHTS_BYTES:,}")


def _check_superblock(block: bytes, size: int) -> None:
    """Raise ValueError unless the first bytes are those of an HDF5 file that ends where this one does."""
    if not block.startswith(_SIGNATURE) or len(block) < _SUPERBLOCK_BYTES:
        raise ValueError("no HDF5 file: its first bytes are others")
    if block[8] not in _SUPERBLOCKS:
        raise ValueError(f"HDF5 of version {block[8]}, expected 0 to 3")
    widths, end = _SUPERBLOCKS[block[8]]
    if block[widths : widths + 2] != b"\x08\x08":
        raise ValueError("HDF5 with addresses of other than 8 bytes")
    (expected,) = struct.unpack_from("<Q", block, end)
    if expected > size:
        raise ValueError(f"truncated: {size:,} of {expected:,} bytes")
