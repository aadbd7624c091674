"""Predictions on disk: one Parquet file from which every figure can be recomputed without the model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from radflow.data.dataset.shards import AGE, FLAGS, TEXTS, FilmTable, ages_of, identity_columns, texts_of
from radflow.errors import UserError
from radflow.files import atomic_file

DATASET = "dataset"
"""Column of the dataset among several that are joined."""
LABEL_PREFIX = "label/"
UNCERTAIN_PREFIX = "uncertain/"
PROBABILITY_PREFIX = "probability/"

_NO_TEXTS = np.array([], dtype=np.str_)
_NO_AGES = np.array([], dtype=np.int16)
_NO_FLAGS = np.zeros((0, 0), dtype=np.bool_)


@dataclass(frozen=True)
class Predictions:
    """What a model said about N films, beside what their labels say.

    Attributes
    ----------
    findings : tuple of str
        Names of the F findings, in the order of the columns of `labels` and `probabilities`.
    image_ids, patient_ids, splits : str array [N]
        An empty patient id means that the patient is not known; such a film counts as a patient of its own.
        Lists are accepted and turned into arrays.
    labels : bool [N, F]
        Whether a finding is known to be present.
    known, uncertain : bool [N, F]
        As in the dataset (`FilmTable`): whether it is known, and where it is not, whether it is said to be possible.
    probabilities : float32 [N, F]
        Each between 0 and 1.
    film_ids, lesion_ids : str array [N]
        The film that a crop is of, empty for whole films; and the lesion, empty for normal tissue too.
    study_ids, views, sides, sexes, pathologies, ages, datasets : str arrays [N], int16 array [N]
        As in the dataset (`FilmTable`), filled like there where they are not given.

    Raises
    ------
    ValueError
        Where the shapes do not fit together, an image id appears twice, a finding appears twice, or a probability is
        NaN or outside 0 to 1.
    """

    findings: tuple[str, ...]
    image_ids: NDArray[np.str_]
    patient_ids: NDArray[np.str_]
    splits: NDArray[np.str_]
    labels: NDArray[np.bool_]
    probabilities: NDArray[np.float32]
    film_ids: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    lesion_ids: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    study_ids: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    views: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    sides: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    sexes: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    pathologies: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    ages: NDArray[np.int16] = field(default_factory=_NO_AGES.copy)
    known: NDArray[np.bool_] = field(default_factory=_NO_FLAGS.copy)
    uncertain: NDArray[np.bool_] = field(default_factory=_NO_FLAGS.copy)
    datasets: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)

    def __post_init__(self) -> None:
        object.__setattr__(self, "findings", tuple(self.findings))
        for name in (*TEXTS.values(), "datasets"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.str_))
        object.__setattr__(self, "ages", np.asarray(self.ages, dtype=np.int16))
        for name in FLAGS:
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.bool_))
        for name, column in vars(self.table).items():
            object.__setattr__(self, name, column)
        object.__setattr__(self, "probabilities", np.asarray(self.probabilities, dtype=np.float32))
        _check_shapes(self)
        _check_values(self)

    def __len__(self) -> int:
        return len(self.image_ids)

    def of_split(self, split: str) -> Predictions:
        """Return the films of one split, in the same order.

        Raises
        ------
        UserError
            If no film belongs to `split`.
        """
        chosen = self.splits == split
        if not chosen.any():
            present = ", ".join(sorted(set(self.splits.tolist()))) or "no films at all"
            raise UserError(f"the predictions hold no films of the split '{split}'; they hold: {present}")
        return self.take(chosen)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Predictions:
        """Return the films at these rows, in their order."""
        return replace(self, probabilities=self.probabilities[rows], **vars(self.table.take(rows)))

    @property
    def table(self) -> FilmTable:
        """All that is known of the films but what the model said."""
        return FilmTable(**{name: getattr(self, name) for name in (*TEXTS.values(), *FLAGS, "ages", "datasets")})

    def by_dataset(self) -> dict[str, Predictions]:
        """The films of each of several datasets that are joined; nothing for one by itself."""
        names = sorted(set(self.datasets.tolist()) - {""})
        return {name: self.take(self.datasets == name) for name in names}

    def of_finding(self, index: int) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.float32]]:
        """Rows of the films of which a finding is known, whether it is present there, and its probabilities."""
        rows = np.flatnonzero(self.known[:, index])
        return rows, self.labels[rows, index], self.probabilities[rows, index]

    @property
    def has_both_classes(self) -> NDArray[np.bool_]:
        """Whether each finding is known to be present on some film, and to be absent on another, [F]."""
        return np.asarray(self.labels.any(axis=0) & (self.known & ~self.labels).any(axis=0))

    @property
    def are_crops(self) -> bool:
        """Whether the images are crops of films."""
        return bool((self.film_ids != "").any())


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write `predictions` as Parquet, a row per film or crop; the file is whole or not there.

    Columns: image_id, patient_id, study_id, film_id, lesion_id, view, sex, split, pathology (empty where the release
    does not say) and age (null there); side, if some are known; dataset, if several are joined; then label/<Finding>
    (bool, null where it is not known), uncertain/<Finding> (bool, if some are said to be possible) and
    probability/<Finding> (float32).
    """
    columns: dict[str, pa.Array] = identity_columns(predictions.table)
    if (predictions.datasets != "").any():
        columns[DATASET] = pa.array(predictions.datasets.tolist(), pa.string())
    for index, finding in enumerate(predictions.findings):
        known, uncertain = predictions.known[:, index], predictions.uncertain[:, index]
        columns[LABEL_PREFIX + finding] = pa.array(predictions.labels[:, index], pa.bool_(), mask=~known)
        if uncertain.any():
            columns[UNCERTAIN_PREFIX + finding] = pa.array(uncertain, pa.bool_())
        columns[PROBABILITY_PREFIX + finding] = pa.array(predictions.probabilities[:, index], pa.float32())
    with atomic_file(Path(path)) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote; the findings come in the order of the file's columns.

    Raises
    ------
    UserError
        If the file is missing, is not Parquet, or its columns or values are not those of predictions.
    """
    table = _read_table(Path(path))
    findings = _findings_of(table.schema, path)
    columns: dict[str, Any] = {
        **{TEXTS[name]: np.array(table[name].to_pylist(), dtype=np.str_) for name in texts_of(table.column_names)},
        **_flags(table, findings),
    }
    if DATASET in table.column_names:
        columns["datasets"] = np.array(table[DATASET].to_pylist(), dtype=np.str_)
    try:
        return Predictions(
            findings=findings,
            probabilities=_matrix(table, PROBABILITY_PREFIX, findings),
            ages=ages_of(table[AGE]),
            **columns,
        )
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _check_shapes(predictions: Predictions) -> None:
    films, findings = len(predictions.image_ids), len(predictions.findings)
    expected: dict[str, tuple[int, ...]] = dict.fromkeys((*TEXTS.values(), "ages", "datasets"), (films,))
    expected |= dict.fromkeys((*FLAGS, "probabilities"), (films, findings))
    for name, shape in expected.items():
        given = getattr(predictions, name).shape
        if given != shape:
            raise ValueError(f"{name} has shape {given}; expected {shape} for {films} films and {findings} findings")


def _check_values(predictions: Predictions) -> None:
    if len(set(predictions.findings)) < len(predictions.findings):
        raise ValueError(f"each finding may appear once; given: {', '.join(predictions.findings)}")
    ids, counts = np.unique(predictions.image_ids, return_counts=True)
    if (counts > 1).any():
        # Gathering from ranks with padding is where a film gets counted twice, and no figure would show it.
        raise ValueError(f"each film may appear once; '{ids[counts > 1][0]}' appears {counts[counts > 1][0]} times")
    probabilities = predictions.probabilities
    outside = ~((probabilities >= 0) & (probabilities <= 1))
    if outside.any():
        film, finding = np.argwhere(outside)[0]
        raise ValueError(
            f"probabilities must lie between 0 and 1; {int(outside.sum())} do not, the first is "
            f"{probabilities[film, finding]} ({predictions.findings[finding]} of {predictions.image_ids[film]})"
        )


def _read_table(path: Path) -> pa.Table:
    """Read the whole Parquet file and refuse columns with empty values."""
    if not path.is_file():
        raise UserError(f"no predictions at {path}; expected the Parquet file that train and evaluate write")
    try:
        table = pq.ParquetFile(path).read()
        names = table.column_names
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} cannot be read as Parquet ({reason}); evaluate the model again to write it") from error
    for name in names:
        if name != AGE and not name.startswith(LABEL_PREFIX) and table[name].null_count:
            raise UserError(f"{path}: column '{name}' has {table[name].null_count} empty values; expected none")
    return table


def _findings_of(schema: pa.Schema, path: Path) -> tuple[str, ...]:
    """Return the findings in the order of the label columns, after a check of every column's name and type."""
    findings = tuple(name.removeprefix(LABEL_PREFIX) for name in schema.names if name.startswith(LABEL_PREFIX))
    if not findings:
        raise UserError(f"{path} has no column label/<Finding>; it is not a file of predictions")
    expected = {**dict.fromkeys(texts_of(schema.names), pa.string()), AGE: pa.int16()}
    for finding in findings:
        expected[LABEL_PREFIX + finding] = pa.bool_()
        expected[PROBABILITY_PREFIX + finding] = pa.float32()
    for name, kind in expected.items():
        if name not in schema.names:
            raise UserError(
                f"{path} has no column '{name}' ({kind}); it is incomplete, or an older radflow's: "
                "evaluate the model again to write it"
            )
        if schema.field(name).type != kind:
            raise UserError(f"{path}: column '{name}' holds {schema.field(name).type}; expected {kind}")
    expected |= {DATASET: pa.string()} if DATASET in schema.names else {}
    expected |= {name: pa.bool_() for finding in findings if (name := UNCERTAIN_PREFIX + finding) in schema.names}
    if unknown := sorted(set(schema.names) - set(expected)):
        raise UserError(f"{path} has the unknown column '{unknown[0]}'; expected only {', '.join(expected)}")
    return findings


def _flags(table: pa.Table, findings: tuple[str, ...]) -> dict[str, NDArray[np.bool_]]:
    """Labels, whether they are known, and whether those that are not are possible, each [N, F]."""
    labels = [table[LABEL_PREFIX + finding].to_pylist() for finding in findings]
    nowhere = [False] * len(table)
    uncertain = [table[name].to_pylist() if (name := UNCERTAIN_PREFIX + finding) in table.column_names else nowhere
                 for finding in findings]  # fmt: skip
    return {
        "labels": np.column_stack([[bool(label) for label in column] for column in labels]),
        "known": np.column_stack([[label is not None for label in column] for column in labels]),
        "uncertain": np.column_stack(uncertain),
    }


def _matrix(table: pa.Table, prefix: str, findings: tuple[str, ...]) -> NDArray:
    """Put the columns prefix/<Finding> side by side, [N, F]."""
    return np.column_stack([table[prefix + finding].to_numpy() for finding in findings])
