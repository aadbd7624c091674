"""The model that `mlflow models serve` runs: films as base64 text in, a row per film out.

A copy of this file lies in the folder of every model that radflow logs, beside the modules that it imports from
`radflow_served`; MLflow runs it to load the model (models from code), so that nothing is pickled and radflow need not
be installed; where it is, its faster operations compute the same. What comes in is not trusted: nothing of it is ever
taken for a path or an address.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from radflow_served.description import Description
from radflow_served.dynamic_batcher import DynamicBatcher
from radflow_served.film import BadFilm, decode_film, resize_film
from radflow_served.remarks import remark_on

if TYPE_CHECKING:
    import keras

COLUMN = "film"
BATCH = 32
MAX_FILM_BYTES = 64 * 2**20
"""Largest film that is taken: the largest digital mammograms have 20 megapixels of 2 bytes."""

_EXPECTED = f"expected a column '{COLUMN}' that holds films (PNG, JPEG, TIFF, DICOM ...) as base64 text"


class RefusedError(MlflowException):
    """A request that is no table of films, answered with status 400 and one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, error_code=INVALID_PARAMETER_VALUE)
        self._reason = reason

    def serialize_as_json(self) -> str:
        """The answer's body. MLflow's server would put all that was sent before the reason."""
        return json.dumps({"error_code": self.error_code, "message": self._reason})


class ServedClassifier(mlflow.pyfunc.PythonModel):
    """Gives a row for every film of a request; one that cannot be read has the reason in `error`."""

    def load_context(self, context: object) -> None:  # noqa: ARG002 (MLflow's signature)
        """Load the model that lies beside this file and hold it to its golden film."""
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # read by TensorFlow as it is imported
        import keras
        from radflow_served.graph import inference_graph

        folder = Path(__file__).parent
        self._description = Description.read(folder)
        model = keras.saving.load_model(folder / "data" / "model.keras", compile=False, safe_mode=True)
        self._size = int(model.input_shape[1])
        graph = inference_graph(_faster_twin(model))
        self._probabilities = DynamicBatcher(lambda films: graph(films).numpy(), BATCH)
        self._description.check(self._probabilities)

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """A table with a row per film: its number, calibrated probabilities, `above/<finding>`, `error` and `warning`.

        Raises RefusedError for what is no table with a column of films, or is one without rows.
        """
        entries = _films_of(model_input)
        probabilities = np.full((len(entries), len(self._description.findings)), np.nan)
        errors: list[str | None] = [None] * len(entries)
        warnings: list[str | None] = [None] * len(entries)
        for start in range(0, len(entries), BATCH):
            rows = range(start, min(start + BATCH, len(entries)))
            self._predict_batch(entries, rows, probabilities, errors, warnings)
        description = self._description
        table = description.table(range(len(entries)), probabilities, errors, warnings, description.limits())
        values = table.to_numpy(object)
        values[table.isna()] = None  # JSON has null, not NaN
        return pd.DataFrame(values, columns=table.columns, dtype=object)

    def _predict_batch(
        self,
        entries: list[object],
        rows: range,
        probabilities: np.ndarray,
        errors: list[str | None],
        warnings: list[str | None],
    ) -> None:
        readable, films = [], []
        for row in rows:
            try:
                content = _bytes_of(entries[row])
                film = decode_film(content, "")
            except BadFilm as reason:
                errors[row] = str(reason)
                continue
            warnings[row], is_blank = remark_on(film, content)
            if not is_blank:
                films.append(resize_film(film, self._size, self._description.fit))
                readable.append(row)
        if readable:
            probabilities[readable] = self._description.shown(self._probabilities(np.stack(films)))


def _faster_twin(model: keras.Model) -> keras.Model:
    """The same model, by radflow's operations where it is installed."""
    try:
        from radflow.models.twin import twin_of
    except ImportError:
        return model
    return twin_of(model)


def _films_of(request: object) -> list[object]:
    """The entries of the column of films."""
    if not isinstance(request, pd.DataFrame):
        raise RefusedError(f"given {type(request).__name__}; {_EXPECTED}")
    # Of the columns of a request, MLflow hands over those that the signature names.
    if COLUMN not in request.columns:
        raise RefusedError(f"no column '{COLUMN}' in the request; {_EXPECTED}")
    entries = request[COLUMN].tolist()
    if len(entries) == 1 and isinstance(entries[0], list) and all(isinstance(entry, str) for entry in entries[0]):
        (entries,) = entries  # how MLflow hands over {"inputs": {"film": [...]}}
    if not entries:
        raise RefusedError(f"given no films; {_EXPECTED}")
    return entries


def _bytes_of(entry: object) -> bytes:
    """Decode an entry's base64, which may be broken into lines; raises BadFilm for anything else."""
    if entry is None or entry is pd.NA or (isinstance(entry, float) and np.isnan(entry)):  # how pandas keeps a null
        raise BadFilm("no film given: null, expected base64 text")
    if not isinstance(entry, str | bytes):
        raise BadFilm(f"not a film: given {type(entry).__name__}, expected base64 text")
    if len(entry) // 4 * 3 > MAX_FILM_BYTES:
        raise BadFilm(f"film of about {len(entry) // 4 * 3:,} bytes, the limit is {MAX_FILM_BYTES:,}")
    text = entry.encode("ascii", "replace") if isinstance(entry, str) else entry
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error as error:
        raise BadFilm(
            f"not base64 ({error}); expected the film itself, as the text that `base64 FILE` prints, not its name"
        ) from error


mlflow.models.set_model(ServedClassifier())
