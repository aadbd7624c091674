"""Several datasets as one: what one of them does not label is not known there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from radflow.data.dataset.manifest import SPLITS, Manifest, SplitRule
from radflow.data.dataset.reading import Dataset, Split
from radflow.data.dataset.shards import FLAGS, FilmTable
from radflow.data.dataset.writing import count_rows
from radflow.data.findings import join_findings, plain_finding
from radflow.data.tasks import OTHER
from radflow.errors import UserError

NAMES = ("image_ids", "patient_ids", "study_ids", "film_ids", "lesion_ids")
"""Columns of names that two datasets may have given to different things."""


@dataclass(frozen=True)
class JoinedDataset(Dataset):
    """Datasets whose splits are joined, each in the order given."""

    joined: tuple[Dataset, ...] = ()

    @property
    def parts(self) -> tuple[Dataset, ...]:
        """The datasets that it is made of."""
        return self.joined

    def _open(self, name: str) -> Split:
        """The films of a split of all datasets that have it."""
        parts = [part for part in self.joined if name in part.manifest.splits and part.manifest.splits[name].rows]
        if not parts:
            raise UserError(f"none of the datasets {self.name} has films in split {name!r}")
        tables = [_joined_table(part, part.split(name).table, self.findings) for part in parts]
        films = [shard for part in parts for shard in part.split(name).films]
        return Split(name, self.image_size, FilmTable.concatenate(tables), films)


def join_datasets(datasets: Sequence[Dataset]) -> JoinedDataset:
    """Join datasets; findings of the same name, or of names that are known to mean the same, are one.

    Raises `UserError` for images of different sizes or kinds, and for one dataset given twice.
    """
    for what, values in (
        ("images of one size", [f"{each.image_size} px" for each in datasets]),
        ("one kind of image", [each.manifest.unit for each in datasets]),
    ):
        if len(set(values)) > 1:
            told = ", ".join(f"{each.name} has {value}" for each, value in zip(datasets, values, strict=True))
            raise UserError(f"datasets that are joined must have {what}: {told}; preprocess one again")
    names = [each.name for each in datasets]
    if len(set(names)) < len(names):
        raise UserError(
            f"two datasets are called {max(names, key=names.count)}; films and patients could not be told apart: "
            "preprocess one again with another name"
        )
    findings = join_findings(each.findings for each in datasets)
    digest = hashlib.sha256("\n".join(each.digest for each in datasets).encode()).hexdigest()
    path = Path(",".join(str(each.path) for each in datasets))
    joined = JoinedDataset(path, _manifest(datasets, findings), digest, joined=tuple(datasets))
    filled = [name for name in SPLITS if joined.manifest.splits[name].rows]
    splits = {name: count_rows(joined.split(name).table, findings) for name in filled}
    return replace(joined, manifest=replace(joined.manifest, splits={**joined.manifest.splits, **splits}))


def _manifest(datasets: Sequence[Dataset], findings: tuple[str, ...]) -> Manifest:
    first = datasets[0].manifest
    nothing = dict.fromkeys(findings, 0)
    rows = {name: sum(each.manifest.splits[name].rows for each in datasets) for name in SPLITS}
    tasks, rules, fits = ({getattr(each.manifest, name) for each in datasets} for name in ("task", "split_rule", "fit"))
    told = [f"{each.name}: {note}" for each in datasets for note in each.manifest.notes]
    if len(fits) > 1:
        told.append("Some films were squashed and some padded to squares; a model of them is given padded ones.")
    return Manifest(
        name="+".join(each.name for each in datasets),
        image_size=first.image_size,
        findings=findings,
        splits={name: replace(first.splits[name], rows=rows[name], positives=nothing) for name in SPLITS},
        split_rule=first.split_rule if len(rules) == 1 else SplitRule("each by its own rule", 0, None),
        rejected=sum(each.manifest.rejected for each in datasets),
        unlisted=sum(each.manifest.unlisted for each in datasets),
        sources={f"{each.name}/{name}": digest for each in datasets for name, digest in each.manifest.sources.items()},
        shards=(),
        radflow_version=first.radflow_version,
        task=first.task if len(tasks) == 1 else OTHER,
        unit=first.unit,
        fit=first.fit if len(fits) == 1 else "pad",
        notes=tuple(told),
    )


def _joined_table(dataset: Dataset, table: FilmTable, findings: tuple[str, ...]) -> FilmTable:
    """The rows of a dataset among those of others: with its name, and with planes for all findings."""
    column_of = {plain_finding(finding): column for column, finding in enumerate(dataset.findings)}
    columns = [column_of.get(plain_finding(finding)) for finding in findings]
    planes = {
        name: np.stack(
            [np.zeros(len(table), bool) if column is None else getattr(table, name)[:, column] for column in columns],
            axis=1,
        )
        for name in FLAGS
    }
    named = {name: _prefixed(dataset.name, getattr(table, name)) for name in NAMES}
    return replace(table, datasets=np.full(len(table), dataset.name), **named, **planes)


def _prefixed(dataset: str, names: np.ndarray) -> np.ndarray:
    """Names that those of another dataset cannot equal; what is not told stays so."""
    return np.array([f"{dataset}/{name}" if name else "" for name in names.tolist()], dtype=np.str_)
