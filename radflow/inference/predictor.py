"""A classifier used on films: what `radflow.load` gives and the entry point `predict` calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from radflow.cluster.threads import set_threads
from radflow.cpu import available_cores
from radflow.data.findings import key_of
from radflow.data.images.film import BadFilm
from radflow.errors import UserError
from radflow.files import atomic_file
from radflow.inference.config import Thresholds
from radflow.inference.description import Description
from radflow.inference.film_sources import Film, FilmSource, ReadFilm, list_films, read_ahead
from radflow.inference.loaded_model import LoadedClassifier, load_classifier
from radflow.terminal import warn
from radflow.tracking.connection import prepare_tracking

if TYPE_CHECKING:
    import tensorflow as tf

BATCH = 32


def load(model: str) -> FilmPredictor:
    """Load a classifier from MLflow: `models:/NAME@champion`, `runs:/ID/model`, any other model URI, or its folder.

    Raises UserError as `load_classifier` does.
    """
    set_threads(0)
    prepare_tracking()
    return FilmPredictor(load_classifier(model))


class FilmPredictor:
    """A classifier that takes films as they lie on disk."""

    def __init__(self, classifier: LoadedClassifier) -> None:
        self.classifier = classifier
        """What it computes with, from arrays of its own film size."""
        self.findings = classifier.findings
        """Names of the findings, in the order of the columns."""
        self._graphs: dict[tuple[bool, bool], Callable[[np.ndarray], dict[str, tf.Tensor]]] = {}

    def predict(
        self,
        films: FilmSource,
        thresholds: Thresholds = "youden",
        calibrated: bool = True,
        heatmaps: str | Path | None = None,
        heatmap_findings: int = 0,
        features: str | Path | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> pd.DataFrame:
        """A table with a row per film: `film`, a probability per finding, `above/<finding>`, `error` and `warning`.

        A film that cannot be read has no probabilities, and `error` says why; it does not stop the others. `warning`
        says what makes a film unlikely to be a frontal radiograph, which a classifier would not notice; a blank film
        gets no probabilities.

        Parameters
        ----------
        films
            A folder, searched in depth for PNG, JPEG, JPEG 2000, TIFF, PGM and DICOM; a film; a list of films; or grey
            uint8 [n, H, W].
        thresholds
            Probability from which `above/<finding>` is true, or the rule by which one was chosen for each finding on
            validation films: "youden", "sensitive" or "specific"; "none" leaves these columns out.
        calibrated
            Whether the probabilities are calibrated; the network's own rank the films of one finding alike.
        heatmaps
            Folder for pictures of where in the film the evidence lies, one per finding, <film>.<finding>.png.
        heatmap_findings
            Draw that many findings of each film, the most probable ones; 0 draws those above their thresholds.
        features
            Parquet file for what the model makes of each film before it weighs the findings: columns `film` and
            `feature_0`, `feature_1`, ... (float32), a row per film that could be read.
        on_progress
            Called with the number of films done.

        Raises
        ------
        UserError
            No films, heat maps of a model that has none, or thresholds by a rule that the model does not have.
        """
        sources = list_films(films)
        description = self.classifier.description
        limits = self._limits(thresholds, calibrated)
        pictures = HeatMaps(Path(heatmaps), description, limits, heatmap_findings) if heatmaps else None
        results = _Results.empty(len(sources), len(self.findings))
        with closing(pictures) if pictures else nullcontext():
            for rows, batch in self._batches(sources, results.errors, results.warnings):
                computed = self._compute(batch, with_maps=pictures is not None, with_features=features is not None)
                results.put(rows, description.shown(computed["probabilities"], calibrated), computed.get("features"))
                if pictures:
                    pictures.draw([sources[row] for row in rows], results.probabilities[rows], computed["maps"])
                if on_progress:
                    on_progress(rows[-1] + 1)
        names = [film.name for film in sources]
        if features:
            results.write_features(Path(features), names)
        return description.table(names, results.probabilities, results.errors, results.warnings, limits)

    def _limits(self, thresholds: Thresholds, calibrated: bool) -> np.ndarray | None:
        """Limits of the shown probabilities, [F]."""
        if thresholds == "none":
            return None
        if not isinstance(thresholds, str):
            return np.full(len(self.findings), float(thresholds))
        description = self.classifier.description
        if description.thresholds and thresholds not in description.thresholds:
            raise UserError(
                f"thresholds={thresholds}: the model has those of {', '.join(description.thresholds)}; name one of "
                "them, a probability or none"
            )
        return description.limits(thresholds, calibrated)

    def _batches(
        self, films: Sequence[Film], errors: list[str | None], warnings: list[str | None]
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """Rows and pixels uint8 [n, size, size] of readable films, decoded while the batches before are computed."""
        rows, pixels = [], []
        size, fit = self.classifier.image_size, self.classifier.description.fit
        for row, film in enumerate(read_ahead(films, size, fit, 2 * BATCH)):
            if isinstance(film, BadFilm):
                errors[row] = str(film)
            else:
                warnings[row] = film.remark.text
            if isinstance(film, ReadFilm) and not film.remark.is_blank:
                rows.append(row)
                pixels.append(film.pixels)
            if len(rows) == BATCH or (rows and row == len(films) - 1):
                yield rows, np.stack(pixels)
                rows, pixels = [], []

    def _compute(self, films: np.ndarray, with_maps: bool, with_features: bool) -> dict[str, np.ndarray]:
        """Probabilities [n, F], and if wanted activation maps [n, h, w, F] and features [n, D]."""
        if not (with_maps or with_features):
            return {"probabilities": self.classifier.predict(films)}
        key = (with_maps, with_features)
        if key not in self._graphs:
            self._graphs[key] = self._build_graph(with_maps, with_features)
        return {name: values.numpy() for name, values in self._graphs[key](films).items()}

    def _build_graph(self, with_maps: bool, with_features: bool) -> Callable[[np.ndarray], dict[str, tf.Tensor]]:
        import keras

        from radflow.inference.graph import inference_graph  # TensorFlow
        from radflow.models.activation_maps import with_activation_maps
        from radflow.models.activation_maps import with_features as and_features

        model = self.classifier.model
        outputs = {"probabilities": model.output}
        try:
            if with_maps:
                outputs["maps"] = with_activation_maps(model).outputs[1]
            if with_features:
                outputs["features"] = and_features(model).outputs[1]
        except ValueError as error:
            raise UserError(
                f"this model has no heat maps and features: {error}; leave heatmaps and features out"
            ) from error
        return inference_graph(keras.Model(model.input, outputs))


@dataclass
class _Results:
    """What is found out of films, row by row."""

    probabilities: np.ndarray
    """[films, findings], NaN for a film that could not be read."""
    errors: list[str | None]
    warnings: list[str | None]
    features: dict[int, np.ndarray]
    """Features [D] of the films that could be read, by row."""

    @classmethod
    def empty(cls, films: int, findings: int) -> _Results:
        return cls(np.full((films, findings), np.nan), [None] * films, [None] * films, {})

    def put(self, rows: list[int], probabilities: np.ndarray, features: np.ndarray | None) -> None:
        self.probabilities[rows] = probabilities
        if features is not None:
            self.features |= dict(zip(rows, features, strict=True))

    def write_features(self, path: Path, names: list[str]) -> None:
        values = np.array(list(self.features.values()), np.float32)
        table = pd.DataFrame(values, columns=[f"feature_{number}" for number in range(values.shape[-1])])
        table.insert(0, "film", [names[row] for row in self.features])
        with atomic_file(path) as temporary:
            table.to_parquet(temporary, index=False)


class HeatMaps:
    """A folder of heat maps, drawn beside the computation of the next films."""

    def __init__(self, folder: Path, description: Description, limits: np.ndarray | None, most: int) -> None:
        if not most and limits is None:
            raise UserError(
                "heat maps are drawn of findings above their thresholds, and thresholds=none; give thresholds, or "
                "heatmap_findings=3 for the three most probable of each film"
            )
        self._findings, self._fit = description.findings, description.fit
        self._folder, self._limits, self._most = folder, limits, most
        folder.mkdir(parents=True, exist_ok=True)
        self._pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="draw")
        self._drawings: list[Future[None]] = []

    def draw(self, films: Sequence[Film], probabilities: np.ndarray, maps: np.ndarray) -> None:
        """Order the pictures of films with probabilities [n, F] and activation maps [n, h, w, F]."""
        for film, shares, evidence in zip(films, probabilities, maps, strict=True):
            chosen = self._choose(shares)
            if len(chosen):
                self._drawings.append(self._pool.submit(self._draw_film, film, chosen, shares, evidence))

    def close(self) -> None:
        """Wait for the pictures; raises what went wrong with one."""
        self._pool.shutdown()
        for drawing in self._drawings:
            drawing.result()

    def _choose(self, shares: np.ndarray) -> np.ndarray:
        if self._most:
            return np.argsort(-shares, kind="stable")[: self._most]
        return np.flatnonzero(shares >= self._limits)

    def _draw_film(self, film: Film, chosen: np.ndarray, shares: np.ndarray, evidence: np.ndarray) -> None:
        from radflow.inference.heatmaps import draw_heatmap

        try:
            pixels = film.read_whole()
            for column in chosen:
                finding = self._findings[column]
                caption = f"{finding} {shares[column]:.3f}   {PurePosixPath(film.name).name}"
                picture = draw_heatmap(pixels, evidence[..., column], caption, self._fit)
                path = self._folder / f"{_inside(film.name)}.{key_of(finding)}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_file(path) as temporary:
                    picture.save(temporary, format="PNG")
        except (BadFilm, OSError) as error:  # a file that went away, a name that is too long, a full disk
            warn(f"no heat map of {film.name}: {error}")


def _inside(name: str) -> PurePosixPath:
    """A film's name as a path that stays inside a folder, whatever list it came from."""
    return PurePosixPath(*(part for part in PurePosixPath(name).parts if part not in ("/", "..")))
