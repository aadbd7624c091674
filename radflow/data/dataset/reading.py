"""The dataset on disk: a folder with a manifest and memory-mapped shards; opened, read and verified."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radflow.data.dataset.manifest import MANIFEST_NAME, Manifest, read_with_digest
from radflow.data.dataset.shards import FLAGS, FilmTable, map_shard
from radflow.data.dataset.verified import verify, verify_once
from radflow.data.images.film import resize_film
from radflow.errors import UserError
from radflow.files import sha256_file

ALL = "all"
"""Name of the split of all films, one split after the other."""


class Split:
    """The films of one split, in the dataset's order."""

    def __init__(self, name: str, image_size: int, table: FilmTable, films: list[NDArray[np.uint8]]) -> None:
        """Films [n, H, W] of each shard, and the table of all of them in their order."""
        self.name = name
        self.image_size = image_size
        self.films = films
        self._table = table
        self._first_rows = np.cumsum([0, *(len(of_shard) for of_shard in films[:-1])])

    @classmethod
    def mapped(cls, name: str, shard_paths: list[Path], image_size: int, findings: int) -> Split:
        """Map the shards of a split; raises `UserError` for a damaged one."""
        tables, films = zip(*(map_shard(path, image_size, findings) for path in shard_paths), strict=True)
        return cls(name, image_size, FilmTable.concatenate(list(tables)), list(films))

    @classmethod
    def joined(cls, name: str, splits: list[Split]) -> Split:
        """Join splits of one dataset, at least one, end to end."""
        table = FilmTable.concatenate([split.table for split in splits])
        return cls(name, splits[0].image_size, table, [films for split in splits for films in split.films])

    def __len__(self) -> int:
        return len(self._table)

    @property
    def table(self) -> FilmTable:
        """All that is known of the films beside their pixels."""
        return self._table

    @property
    def image_ids(self) -> NDArray[np.str_]:
        """File names of the films in the release, [N]."""
        return self._table.image_ids

    @property
    def patient_ids(self) -> NDArray[np.str_]:
        """Patients as text, [N]."""
        return self._table.patient_ids

    @property
    def views(self) -> NDArray[np.str_]:
        """View positions (PA, AP, ...), [N]."""
        return self._table.views

    @property
    def pathologies(self) -> NDArray[np.str_]:
        """What biopsy or follow-up found (benign, malignant, normal ...), empty where the release does not say, [N]."""
        return self._table.pathologies

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Whether each finding is known to be present, [N, findings]."""
        return self._table.labels

    def gather(self, indices: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Copy the films at `indices` (0 <= i < N, any order, repeats allowed) out of the map: uint8 [n, H, W].

        Raises IndexError for an index outside the split.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"split {self.name} has {len(self)} films, asked for {wanted.min()} to {wanted.max()}")
        gathered = np.empty((len(wanted), self.image_size, self.image_size), np.uint8)
        shard_of = np.searchsorted(self._first_rows, wanted, side="right") - 1
        for shard in np.unique(shard_of):
            places = np.flatnonzero(shard_of == shard)
            gathered[places] = self.films[shard][wanted[places] - self._first_rows[shard]]
        return gathered


class SplitForModel(Split):
    """A split whose films are resized, and whose labels are chosen, as a model takes them."""

    def __init__(self, split: Split, image_size: int, columns: list[int]) -> None:
        """`columns` are those of the split's labels that remain, in their order."""
        flags = {name: getattr(split.table, name)[:, columns] for name in FLAGS}
        super().__init__(split.name, split.image_size, replace(split.table, **flags), split.films)
        self._wanted_size = image_size

    def gather(self, indices: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Copy the films at `indices`, resized: uint8 [n, size, size]."""
        films = super().gather(indices)
        if self._wanted_size == self.image_size:
            return films
        return np.stack([resize_film(film, self._wanted_size) for film in films])


@dataclass(frozen=True)
class Dataset:
    """A dataset on disk. Splits are mapped when first asked for."""

    path: Path
    manifest: Manifest
    digest: str
    """SHA-256 of the manifest, which names the SHA-256 of everything else: equal digests are equal datasets."""
    _opened: dict[str, Split] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Name of the collection, such as chestxray14."""
        return self.manifest.name

    @property
    def image_size(self) -> int:
        """Height and width of the films in pixels."""
        return self.manifest.image_size

    @property
    def findings(self) -> tuple[str, ...]:
        """Names of the label columns, in order."""
        return self.manifest.findings

    @property
    def parts(self) -> tuple[Dataset, ...]:
        """The datasets that it is made of: itself, or those that are joined in it."""
        return (self,)

    def split(self, name: str) -> Split:
        """Return a split by name (train, val, test, or all), its shards compared with their hashes (`verify_once`).

        Films that are mapped stay as they are when the dataset is replaced later; one that is replaced before is an
        error, since its films would not be those of the manifest. Raises `UserError` for that, for an unknown or empty
        split and for a damaged shard.
        """
        if name not in self._opened:
            splits = [self.split(each) for each, counts in self.manifest.splits.items() if name == ALL and counts.rows]
            self._opened[name] = Split.joined(name, splits) if splits else self._open(name)
        return self._opened[name]

    def _open(self, name: str) -> Split:
        shards = [shard for shard in self.manifest.shards if shard.split == name]
        if not shards:
            there = ", ".join(f"{split} ({counts.rows})" for split, counts in self.manifest.splits.items())
            raise UserError(f"the dataset at {self.path} has no films in split {name!r}; it has {there}")
        with self.unchanged():
            verify_once(self.path, shards)
            paths = [self.path / shard.file for shard in shards]
            return Split.mapped(name, paths, self.image_size, len(self.findings))

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Raise `UserError` at the end of the block where the manifest is another one than was read.

        Files that lack or differ in the block are then those of the other dataset, so that this error comes first.
        """
        try:
            yield
        finally:
            if not self._is_as_read():
                raise UserError(
                    f"the dataset at {self.path} was replaced while it was being read; start again when no preprocess "
                    "or copy writes to it"
                )

    def _is_as_read(self) -> bool:
        try:
            return sha256_file(self.path / MANIFEST_NAME) == self.digest
        except OSError:
            return False


def open_dataset(path: str | Path) -> Dataset:
    """Open a dataset folder: manifest read, shards and tables present with the sizes that it names.

    Hashes are checked when a split is asked for. Raises `UserError` for a folder that is no whole dataset.
    """
    folder = Path(path)
    manifest, digest = read_with_digest(folder)
    dataset = Dataset(folder, manifest, digest)
    with dataset.unchanged():
        for entry in manifest.files:
            file = folder / entry.file
            if not file.is_file():
                raise UserError(f"file {file} is missing; copy the dataset again or make it again with preprocess")
            if (given := file.stat().st_size) != entry.bytes:
                raise UserError(f"file {file} has {given:,} bytes, the manifest says {entry.bytes:,}; copy it again")
    return dataset


def verify_dataset(path: str | Path, progress: Callable[[int, int], None] | None = None) -> Dataset:
    """Open a dataset, read every file against its hash, and map its splits; raises `UserError` for the first damage.

    `progress` is called with the files read so far and with all.
    """
    dataset = open_dataset(path)
    verify(dataset.path, dataset.manifest.files, progress)
    for name in {shard.split for shard in dataset.manifest.shards}:
        dataset.split(name)
    return dataset
