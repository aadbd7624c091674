from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from radflow.errors import UserError
from radflow.models.weights_file import check_weights_file

DOCUMENTS = {"metadata.json": b"{}", "config.json": b'{"class_name": "Functional"}'}


def hdf5(libver: str = "earliest", claimed: int = 0) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w", libver=libver) as file:
        if claimed:
            file.create_dataset("claimed", (claimed,), "f4", chunks=(1024,))
        file.create_dataset("layers/conv1/vars/0", data=np.arange(600, dtype=np.float32))
        file["layers"].attrs["names"] = ["conv1"]
    return content.getvalue()


def keras_archive(path: Path, **members: bytes) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, content in {**DOCUMENTS, "model.weights.h5": hdf5(), **members}.items():
            archive.writestr(name, content)
    return path


def test_readable_files_and_words_pass(tmp_path: Path) -> None:
    for libver in ("earliest", "latest"):
        (tmp_path / f"{libver}.weights.h5").write_bytes(hdf5(libver))
        check_weights_file(str(tmp_path / f"{libver}.weights.h5"))
    for weights in ("none", "imagenet", keras_archive(tmp_path / "model.keras")):
        check_weights_file(str(weights))


def refused(path: Path, reason: str) -> None:
    with pytest.raises(UserError, match=rf"{path.name} cannot be read \(.*{reason}") as told:
        check_weights_file(str(path))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["body.weights.h5", "model.keras"])
@pytest.mark.parametrize("content", [b"", b"neither HDF5 nor an archive"])
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    for name in ("nowhere.h5", "pipe.h5", "x" * 300):
        with pytest.raises(UserError, match=rf"{name} is not a file at"):
            check_weights_file(str(tmp_path / name))


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_what_is_told_without_hdf5(tmp_path: Path, libver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library, which has holes, does not see these files."""
    path = tmp_path / "body.weights.h5"
    whole = hdf5(libver)
    monkeypatch.setattr("radflow.models.weights_file.sys.executable", "nothing")
    for content, reason in {
        whole[:-1]: f"truncated: {len(whole) - 1:,} of {len(whole):,} bytes",
        b"\x88" + whole[1:]: "its first bytes are others",
        whole[:8] + b"\x09" + whole[9:]: "HDF5 of version 9",
        whole[:20]: "its first bytes are others",
    }.items():
        path.write_bytes(content)
        refused(path, reason)
    path.write_bytes(whole)
    monkeypatch.setattr("radflow.models.weights_file.MAX_WEIGHTS_BYTES", 1000)
    refused(path, "bytes, the limit is 1,000")


def write_external(file: h5py.File) -> None:
    file["link"] = h5py.ExternalLink("/etc/passwd", "/")


def write_soft(file: h5py.File) -> None:
    file["link"] = h5py.SoftLink("/layers")


def write_outside(file: h5py.File) -> None:
    file.create_dataset("outside", (10,), "f4", external=[("/etc/passwd", 0, 40)])


def write_virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (10,))
    file.create_virtual_dataset("virtual", layout)


def write_packed(file: h5py.File) -> None:
    file.create_dataset("packed", data=np.zeros(10_000), compression="gzip")


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (write_external, "link is a link to elsewhere"),
        (write_soft, "link is a link to elsewhere"),
        (write_outside, "outside is not a plain array"),
        (write_virtual, "virtual is not a plain array"),
        (write_packed, "packed is not a plain array"),
    ],
)
def test_what_is_told_before_keras_reads(tmp_path: Path, write, reason: str) -> None:
    content = io.BytesIO(hdf5())
    with h5py.File(content, "r+") as file:
        write(file)
    path = tmp_path / "body.weights.h5"
    path.write_bytes(content.getvalue())
    refused(path, reason)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"assets/run.py": b"import os"}, r"it holds .*assets/run.py; expected config.json, metadata.json, model.weig"),
        ({"config.json": b"{"}, "Expecting property name"),
        ({"config.json": b"[" * 100_000}, "recursion"),
        ({"model.weights.h5": b"no HDF5 " * 20}, "its first bytes are others"),
        ({"model.weights.h5": hdf5("earliest", 2**40)}, "its arrays take more room than the file"),
    ],
)
def test_what_is_told_of_an_archive(tmp_path: Path, members: dict[str, bytes], reason: str) -> None:
    refused(keras_archive(tmp_path / "model.keras", **members), reason)


def test_a_flipped_bit_of_an_archive_s_weights_is_found(tmp_path: Path) -> None:
    path = keras_archive(tmp_path / "model.keras")
    content = bytearray(path.read_bytes())
    content[content.index(struct.pack("<f", 300.0))] ^= 1
    path.write_bytes(content)
    refused(path, "Bad CRC-32 for file 'model.weights.h5'")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.kill(os.getpid(), 11)", "the HDF5 library dies of it by SIGSEGV"),
        ("import time; time.sleep(60)", "does not come to its end within 0.5 s"),
    ],
)
def test_a_file_that_ends_the_library_is_one_line(
    tmp_path: Path, program: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr("radflow.models.hdf5_arrays.__file__", str(tmp_path / "program.py"))
    monkeypatch.setattr("radflow.models.weights_file.SECONDS", 0.5)
    (tmp_path / "body.weights.h5").write_bytes(hdf5())
    refused(tmp_path / "body.weights.h5", reason)


def test_a_limit_on_memory_that_is_there_already_is_kept(tmp_path: Path) -> None:
    (tmp_path / "body.weights.h5").write_bytes(hdf5())
    check = "from radflow.models.weights_file import check_weights_file; check_weights_file('body.weights.h5')"
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_DATA, (10**9, 10**9)); {check}"
    command = [sys.executable, "-c", limited]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, check=True)
