"""The manifest of a dataset on disk: what is in it, from what it was made, and the hash of every part."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path, PurePath
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from radflow.data.images.film import Fit
from radflow.data.tasks import OTHER, is_task
from radflow.errors import UserError
from radflow.files import atomic_file, parse_json, read_bounded

MANIFEST_NAME = "manifest.json"
REJECTED_NAME = "rejected.csv"
FORMAT = "radflow-dataset"
VERSION = 3
READ_VERSIONS = (2, VERSION)
"""Those that this radflow reads; in version 2 all labels are known."""
SPLITS = ("train", "val", "test")
MAX_NAME = 100
"""Most letters of a file's name; file systems refuse more than 255 bytes."""
MAX_IMAGE_SIZE = 8192
"""Largest height and width of an image; preprocess makes none of over 1024."""


@dataclass(frozen=True)
class SplitCounts:
    """How many films and patients a split has, and how many films show each finding."""

    rows: int
    patients: int
    no_finding: int
    """Films of which all findings are known to be absent."""
    positives: dict[str, int]
    """Films that are known to show a finding."""
    unknown: dict[str, int] = field(default_factory=dict)
    """Films of which it is not known whether they show a finding; empty where all is known."""
    uncertain: dict[str, int] = field(default_factory=dict)
    """Those of them that are said to show it possibly."""

    def prevalence(self, finding: str) -> float:
        """Share of the films that show a finding, of those of which it is known; NaN where there are none."""
        known = self.rows - self.unknown.get(finding, 0)
        return self.positives[finding] / known if known else math.nan


@dataclass(frozen=True)
class SplitRule:
    """How films were given to train, val and test; with the label file it repeats the splits exactly."""

    rule: str
    seed: int
    val_fraction: float | None
    """None where a list names the validation films."""
    test_fraction: float | None = None


@dataclass(frozen=True)
class ShardEntry:
    """One Arrow file of the dataset."""

    file: str
    split: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class TableEntry:
    """A table beside the shards, as CSV: `boxes.csv`, `lesions.csv`."""

    file: str
    rows: int
    bytes: int
    sha256: str


Entry = TypeVar("Entry", ShardEntry, TableEntry)


@dataclass(frozen=True)
class Manifest:
    """Everything about a dataset but its films. Equal sources and settings give equal manifests, byte for byte."""

    name: str
    image_size: int
    findings: tuple[str, ...]
    splits: dict[str, SplitCounts]
    split_rule: SplitRule
    rejected: int
    """Films that were listed but could not be used; `rejected.csv` names them with the reasons."""
    unlisted: int
    """What the label file names and no split holds, although nothing is damaged; `rejected.csv` names it too.

    Chest films that are on no split list; lesions and films of mammograms that are left out, and crops of normal
    tissue for which a film has no room.
    """
    sources: dict[str, str]
    """SHA-256 of the label file and the split lists, by file name."""
    shards: tuple[ShardEntry, ...]
    radflow_version: str
    task: str = OTHER
    """What is classified, such as chest."""
    crops: dict[str, float] = field(default_factory=dict)
    """Settings by which crops of mammograms were cut; empty where images are whole films, or were cut by others."""
    unit: str = "films"
    """What an image is: `films`, `crops` of them, or their `breasts`."""
    fit: str = "squash"
    """How films were made square: `pad`, `squash` or `breast`."""
    tables: tuple[TableEntry, ...] = ()
    notes: tuple[str, ...] = ()
    """What a user of the dataset must know of its sources, in sentences."""

    @property
    def files(self) -> tuple[ShardEntry | TableEntry, ...]:
        """All files whose size and hash are known."""
        return (*self.shards, *self.tables)

    @property
    def rows(self) -> int:
        """Films in all splits."""
        return sum(counts.rows for counts in self.splits.values())


_WRITTEN_WHERE_TOLD: dict[str, Any] = {"crops": {}, "unit": "films", "fit": "squash", "tables": (), "notes": ()}
"""Parts of a manifest that are left out of the file where they say nothing."""


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into `folder`, atomically."""
    document = {"format": FORMAT, "version": VERSION, **asdict(manifest)}
    for name, nothing in _WRITTEN_WHERE_TOLD.items():
        if getattr(manifest, name) == nothing:
            del document[name]
    for counts in document["splits"].values():
        for name in [name for name in ("unknown", "uncertain") if not counts[name]]:
            del counts[name]
    with atomic_file(folder / MANIFEST_NAME) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read `manifest.json` of a dataset folder; raises `UserError` where absent, damaged or of another version."""
    return read_with_digest(folder)[0]


def read_with_digest(folder: Path) -> tuple[Manifest, str]:
    """Read the manifest as `read_manifest` does, with the SHA-256 of the very bytes that were read."""
    path = folder / MANIFEST_NAME
    try:
        content = read_bounded(path)
        document = parse_json(content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"no dataset at {folder}: {MANIFEST_NAME} is missing; make one with preprocess") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); make the dataset again with preprocess") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UserError(f"{path} is not a radflow dataset manifest; give a folder that preprocess made")
    if document.get("version") not in READ_VERSIONS:
        given, expected = document.get("version"), " and ".join(map(str, READ_VERSIONS))
        raise UserError(f"{path} has version {given!r}, this radflow reads versions {expected}; preprocess again")
    try:
        return _checked(_parse_manifest(document)), hashlib.sha256(content).hexdigest()
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} is damaged ({error!r}); make the dataset again with preprocess") from error


def _parse_manifest(document: dict[str, Any]) -> Manifest:
    return Manifest(
        name=document["name"],
        image_size=document["image_size"],
        findings=tuple(document["findings"]),
        splits={name: SplitCounts(**counts) for name, counts in document["splits"].items()},
        split_rule=SplitRule(**document["split_rule"]),
        rejected=document["rejected"],
        unlisted=document["unlisted"],
        sources=dict(document["sources"]),
        shards=tuple(_plainly_named(ShardEntry(**entry)) for entry in document["shards"]),
        radflow_version=document["radflow_version"],
        task=document["task"],
        crops=dict(document.get("crops", {})),
        unit=document.get("unit", "films"),
        fit=document.get("fit", "squash"),
        tables=tuple(_plainly_named(TableEntry(**entry)) for entry in document.get("tables", ())),
        notes=tuple(document.get("notes", ())),
    )


def _checked(manifest: Manifest) -> Manifest:
    """Pass on a manifest whose values are of their fields' types and fit together, or raise ValueError."""
    for name, hint in get_type_hints(Manifest).items():
        if not _is_of(getattr(manifest, name), hint):
            raise ValueError(f"{name} is not as expected")
    if not 0 < manifest.image_size <= MAX_IMAGE_SIZE:
        raise ValueError(f"image_size is {manifest.image_size}, expected 1 to {MAX_IMAGE_SIZE}")
    if not is_task(manifest.task):
        raise ValueError(f"task is {manifest.task!r}, expected a word such as chest")
    if manifest.fit not in get_args(Fit):
        raise ValueError(f"fit is {manifest.fit!r}, expected one of {', '.join(get_args(Fit))}")
    for split, counts in manifest.splits.items():
        if split not in SPLITS or counts.positives.keys() != set(manifest.findings):
            raise ValueError(f"split {split!r} counts {len(counts.positives)} of {len(manifest.findings)} findings")
        for told in (counts.unknown, counts.uncertain):
            if told.keys() not in (set(), set(manifest.findings)):
                raise ValueError(f"split {split!r} counts unknown labels of {len(told)} findings")
    return manifest


def _is_of(value: object, hint: Any) -> bool:
    """Whether a value that JSON gave is of the type of its field; numbers are finite and not negative."""
    inner = get_args(hint)
    if isinstance(hint, UnionType):
        return any(_is_of(value, one) for one in inner)
    if isinstance(hint, type) and is_dataclass(hint):
        hints = get_type_hints(hint)
        return isinstance(value, hint) and all(_is_of(getattr(value, name), each) for name, each in hints.items())
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(_is_of(each, inner[1]) for each in value.values())
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is_of(each, inner[0]) for each in value)
    if hint in (int, float):
        kinds = int if hint is int else int | float
        return isinstance(value, kinds) and not isinstance(value, bool) and 0 <= value < math.inf
    return isinstance(value, hint)


def _plainly_named(entry: Entry) -> Entry:
    """Pass on an entry that names a file of the folder: it may come from a bucket, and is written to where it says."""
    if PurePath(entry.file).name != entry.file or len(entry.file) > MAX_NAME:
        raise ValueError(f"file {entry.file[:MAX_NAME]!r} is not a plain file name")
    return entry
