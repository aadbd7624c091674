"""Which patients a model has seen, held against those that it is judged on.

A model whose test patients were among those that it, or one that it started from, was trained on is no better than it
looks: its test AUC says nothing of new patients. A split of patients protects within one dataset only. So every model
carries the hashes of its patients, and those of all models before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from radflow.data.dataset.manifest import Manifest
from radflow.data.dataset.reading import ALL, Dataset
from radflow.files import atomic_file

PATIENTS_FILE = "patients.json"
"""Name of the list in the folders of jobs and of models."""
FORMAT = "radflow-patients"
VERSION = 1
HASH_BYTES = 8
"""Two of 100,000 patients have the same hash in one of four billion such sets."""
DRAWN = ("phantoms", "phantom_mammograms")
"""Names that all drawings have, each with patients of its own."""


@dataclass(frozen=True)
class SeenSource:
    """Patients of one source of films; patient 12 of one source is not patient 12 of another."""

    marks: frozenset[str]
    """What tells the source, see `source_marks`."""
    trained: frozenset[str]
    """Hashes of the patients whose films changed weights."""
    validated: frozenset[str]
    """Hashes of those whose films chose the best epoch and the thresholds."""


@dataclass(frozen=True)
class Leakage:
    """How many patients of a split a model has seen."""

    COUNTS: ClassVar[tuple[str, ...]] = ("patients", "trained", "validated")

    split: str
    patients: int
    """Number of patients of the split."""
    trained: int
    validated: int
    """Number that were validated on, of those that were not trained on."""
    unknown: tuple[str, ...]
    """Models among those before that do not say whom they have seen."""

    @property
    def seen(self) -> int:
        """Patients of the split that were trained or validated on."""
        return self.trained + self.validated

    @property
    def warning(self) -> str:
        """Warning where a patient was seen or it is not known; else ''."""
        return str(self) if self.seen or self.unknown else ""

    def __str__(self) -> str:
        """Say it in words."""
        of = f"of {self.patients:,} {'' if self.split == ALL else f'{self.split} '}patients"
        how = f"({self.trained:,} trained on, {self.validated:,} validated on)"
        found = f"{self.seen:,} {of} were seen in training {how}" if self.seen else f"none {of} was seen in training"
        doubt = f"; which patients {' and '.join(self.unknown)} has seen is not known"
        return found + (doubt if self.unknown else "")


@dataclass(frozen=True)
class SeenPatients:
    """The patients that a model has seen, itself or in the models that it started from."""

    sources: tuple[SeenSource, ...] = ()
    unknown: tuple[str, ...] = ()
    """Models and files of weights that it started from and that do not say whom they have seen."""

    @classmethod
    def of_training(cls, dataset: Dataset) -> SeenPatients:
        """Those of a training on a dataset."""
        seen = cls()
        for part in dataset.parts:
            trained, validated = (_patients_of(part, split) for split in ("train", "val"))
            seen |= cls((SeenSource(source_marks(part.manifest), hashes(trained), hashes(validated)),))
        return seen

    def __or__(self, other: SeenPatients) -> SeenPatients:
        """Those that either has seen."""
        merged: dict[frozenset[str], SeenSource] = {}
        for source in (*self.sources, *other.sources):
            known = merged.get(source.marks, SeenSource(source.marks, frozenset(), frozenset()))
            trained, validated = known.trained | source.trained, known.validated | source.validated
            merged[source.marks] = SeenSource(source.marks, trained, validated)
        return SeenPatients(tuple(merged.values()), tuple(dict.fromkeys((*self.unknown, *other.unknown))))

    def leakage(self, dataset: Dataset, split: str) -> Leakage:
        """Count the patients of a split among them."""
        found = [self.count(source_marks(part.manifest), _patients_of(part, split), split) for part in dataset.parts]
        patients, trained, validated = (sum(getattr(each, name) for each in found) for name in Leakage.COUNTS)
        return Leakage(split, patients, trained, validated, self.unknown)

    def knows(self, dataset: Dataset) -> bool:
        """Whether films of its source, or of one that shares patients' ids with it, were among those seen."""
        return any(self._related(source_marks(part.manifest)) for part in dataset.parts)

    def count(self, marks: frozenset[str], patient_ids: Iterable[str], split: str) -> Leakage:
        """Count patients of a source with these marks among them."""
        patients, related = hashes(patient_ids), self._related(marks)
        trained = patients & _union(source.trained for source in related)
        validated = patients & _union(source.validated for source in related) - trained
        return Leakage(split, len(patients), len(trained), len(validated), self.unknown)

    def _related(self, marks: frozenset[str]) -> list[SeenSource]:
        """The sources that share a mark with `marks`, or with a source that does."""
        related: list[SeenSource] = []
        rest = list(self.sources)
        while found := [source for source in rest if source.marks & marks]:
            related += found
            marks |= _union(source.marks for source in found)
            rest = [source for source in rest if source not in found]
        return related

    def to_json(self) -> str:
        """A text that `from_json` reads."""
        sources = [{name: sorted(values) for name, values in asdict(source).items()} for source in self.sources]
        document = {"format": FORMAT, "version": VERSION, "sources": sources, "unknown": self.unknown}
        return json.dumps(document, separators=(",", ":")) + "\n"

    @classmethod
    def from_json(cls, text: str) -> SeenPatients:
        """Read what `to_json` wrote; raises ValueError for anything else."""
        document = json.loads(text)
        if not isinstance(document, dict) or (document.get("format"), document.get("version")) != (FORMAT, VERSION):
            raise ValueError(f"it is not a list of patients of version {VERSION}")
        try:
            sources = tuple(_parse_source(source) for source in document["sources"])
            return cls(sources, tuple(map(str, document["unknown"])))
        except (KeyError, TypeError) as error:
            raise ValueError(f"its list of patients is not whole: {error!r}") from error

    def write(self, folder: Path) -> None:
        """Write the list into a folder."""
        with atomic_file(folder / PATIENTS_FILE) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")


def _patients_of(dataset: Dataset, split: str) -> list[str]:
    """The patients of a split; none where a dataset that is joined to others has no such split."""
    has_films = split == ALL or dataset.manifest.splits[split].rows
    return dataset.split(split).patient_ids.tolist() if has_films else []


def hashes(patient_ids: Iterable[str]) -> frozenset[str]:
    """The patients, each once, as 16 hexadecimal digits that do not show their ids to whoever opens the list.

    Nobody's secret is safe behind them: who can try all ids of a hospital finds those that are in.
    """
    return frozenset(
        hashlib.blake2b(patient.encode(), digest_size=HASH_BYTES, person=b"radflow-patient").hexdigest()
        for patient in set(patient_ids)
    )


def source_marks(manifest: Manifest) -> frozenset[str]:
    """What tells the source of a dataset's films: datasets that share one of these share their patients' ids.

    They are the SHA-256 of its label file and lists, which preprocessing with another split or size has too, and its
    name, which other editions of the label file have too. Another hospital's films in the same layout need a name of
    their own (`name` of preprocess).
    """
    files = frozenset(manifest.sources.values())
    return files if manifest.name in DRAWN and files else files | {manifest.name}


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset[str]().union(*sets)


def _parse_source(content: dict[str, Any]) -> SeenSource:
    return SeenSource(**{name: frozenset(map(str, content[name])) for name in ("marks", "trained", "validated")})
