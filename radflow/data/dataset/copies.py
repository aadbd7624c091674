"""Copies on this machine of datasets in object stores.

They lie in the cache folder under the digest of their manifest, and so are used as long as the
store's manifest has that digest.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from radflow.data.dataset.manifest import MANIFEST_NAME, REJECTED_NAME, ShardEntry, TableEntry, read_manifest
from radflow.errors import UserError
from radflow.files import atomic_file, cache_folder, replace_folder, sha256_file
from radflow.locks import only_one_process
from radflow.storage import Location, S3Path, in_threads
from radflow.terminal import say


def copy_folder(digest: str) -> Path:
    """Folder of the copy of the dataset with this digest."""
    return cache_folder() / "datasets" / digest


def on_disk(data: Location) -> Path:
    """The folder of a dataset: `data` itself, or where it is in an object store, a verified copy on this machine.

    Processes that ask together wait for the one that fetches. Raises `UserError` where there is no dataset, or where
    what arrives differs from its manifest.
    """
    if not isinstance(data, S3Path):
        return data
    try:
        manifest = (data / MANIFEST_NAME).read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"no dataset at {data}: {MANIFEST_NAME} is missing; make one with preprocess") from error
    folder = copy_folder(hashlib.sha256(manifest).hexdigest())
    try:
        with only_one_process(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():
                _fetch(data, manifest, folder)
    except FileNotFoundError as error:
        raise UserError(f"{data} is not whole: {error.filename} is missing; upload it again") from error
    except OSError as error:
        raise UserError(f"{data} cannot be copied to {folder}: {error}; set RADFLOW_CACHE to another folder") from error
    return folder


def _fetch(remote: S3Path, manifest: bytes, folder: Path) -> None:
    """Copy a dataset to `folder`; what an interrupted fetch has brought already is not asked for again."""
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(exist_ok=True)
    with atomic_file(partial / MANIFEST_NAME) as temporary:
        temporary.write_bytes(manifest)
    files = read_manifest(partial).files
    gigabytes = sum(file.bytes for file in files) / 1e9
    say(f"fetching {remote}: {len(files)} files, {gigabytes:.2f} GB, to {folder}")
    for _ in in_threads(lambda file: _fetch_file(remote, file, partial), files):
        pass
    with atomic_file(partial / REJECTED_NAME) as temporary:
        temporary.write_bytes((remote / REJECTED_NAME).read_bytes())
    replace_folder(partial, folder)


def _fetch_file(remote: S3Path, file: ShardEntry | TableEntry, folder: Path) -> None:
    target = folder / file.file
    if target.is_file() and sha256_file(target) == file.sha256:
        return
    digest = hashlib.sha256()
    with atomic_file(target) as temporary, (remote / file.file).open("rb") as source, temporary.open("wb") as copy:
        while part := source.read(2**20):
            digest.update(part)
            copy.write(part)
        if digest.hexdigest() != file.sha256:
            raise UserError(f"{remote / file.file} is damaged: its SHA-256 differs from the manifest; upload it again")
