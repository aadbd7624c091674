"""What a saved classifier says of itself, beside its weights.

Saved models carry this file, so it imports nothing of radflow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

DESCRIPTION_FILE = "classifier.json"
GOLDEN_FILM_FILE = "golden.png"

ABOVE_PREFIX = "above/"
"""Prefix of a finding's name: the column that says whether the finding's probability reaches its threshold."""

GOLDEN_TOLERANCE = 0.25
"""Largest difference in log-odds between the golden film's probabilities here and where the model was saved.

Ten times the most by which float32 and bfloat16 differed (0.023: eight films, a trained VGG-16 and a trained
DenseNet-121); films of half their brightness moved the same networks by 0.45 to 4.3.
"""


Fit = Literal["pad", "squash", "breast"]
"""As in film.py, which models carry under another package's name than radflow's."""


def fit_named(text: str) -> Fit:
    """How films become square, by its name; raises ValueError for another text."""
    known: tuple[Fit, ...] = get_args(Fit)
    if text not in known:
        raise ValueError(f"fit is {text!r}, expected {', '.join(known)}")
    return known[known.index(text)]


class NotReproducedError(ValueError):
    """A loaded model gives the golden film other probabilities than when it was saved; the text is one line."""


@dataclass(frozen=True)
class Description:
    """Description of a classifier of films [size, size] with F findings.

    Attributes
    ----------
    findings
        Names of the outputs, in their order.
    thresholds
        Probability from which each finding counts as present; NaN for one without.
    golden_film
        uint8 [size, size].
    golden_probabilities
        float [F], what the model gave for it when it was saved.
    about
        More words about the model: data digest, version of radflow.
    fit
        How films become square: `pad`, `squash` or `breast`.
    """

    findings: tuple[str, ...]
    thresholds: NDArray[np.float64]
    golden_film: NDArray[np.uint8]
    golden_probabilities: NDArray[np.float64]
    about: dict[str, str]
    fit: Fit = "squash"

    def write(self, folder: Path) -> None:
        """Write the description into a model's folder."""
        Image.fromarray(self.golden_film).save(folder / GOLDEN_FILM_FILE)
        content = {
            "findings": self.findings,
            "thresholds": [None if np.isnan(threshold) else float(threshold) for threshold in self.thresholds],
            "golden_probabilities": [float(probability) for probability in self.golden_probabilities],
            "about": self.about,
            "fit": self.fit,
        }
        (folder / DESCRIPTION_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Description:
        """Read what `write` wrote; raises ValueError or OSError where it is absent or not whole."""
        try:
            content = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
            with Image.open(folder / GOLDEN_FILM_FILE, formats=("PNG",)) as film:
                golden_film = np.asarray(film)
            return cls(
                tuple(content["findings"]),
                np.array(content["thresholds"], np.float64),  # None becomes NaN
                golden_film,
                np.array(content["golden_probabilities"], np.float64),
                dict(content["about"]),
                fit_named(content.get("fit", "squash")),
            )
        except (KeyError, TypeError, AttributeError, RecursionError, Image.DecompressionBombError) as error:
            raise ValueError(f"{DESCRIPTION_FILE} is not whole: {error!r}") from error

    def check(self, predict: Callable[[NDArray[np.uint8]], np.ndarray]) -> None:
        """Raise `NotReproducedError` unless `predict` gives the golden film the probabilities that it had.

        `predict` maps films uint8 [n, size, size] to probabilities [n, F].
        """
        probabilities = predict(self.golden_film[np.newaxis])[0]
        if probabilities.shape != self.golden_probabilities.shape:
            raise NotReproducedError(
                f"it gives {len(probabilities)} probabilities for its golden film, expected "
                f"{len(self.golden_probabilities)}; its files do not belong together"
            )
        differences = np.abs(_log_odds(probabilities) - _log_odds(self.golden_probabilities))
        worst = int(np.argmax(differences))
        if not differences[worst] <= GOLDEN_TOLERANCE:
            raise NotReproducedError(
                f"it gives its golden film {self.findings[worst]} {probabilities[worst]:.4f}, and gave "
                f"{self.golden_probabilities[worst]:.4f} when it was saved; its files are damaged, or this machine's "
                "TensorFlow computes something else"
            )

    def table(
        self,
        films: Sequence[str | int],
        probabilities: np.ndarray,
        errors: Sequence[str | None],
        warnings: Sequence[str | None],
        thresholds: np.ndarray | None,
    ) -> pd.DataFrame:
        """A row per film: `film`, a column per finding, `above/<finding>` for each, `error` and `warning`.

        `probabilities` are [films, F], NaN where a film could not be read and `errors` says why; `warnings` say what is
        odd about one that could. `above/<finding>` is missing where there is no probability or no threshold; without
        `thresholds` [F] there are no such columns.
        """
        table = pd.DataFrame(np.asarray(probabilities, np.float64), columns=list(self.findings))
        table.insert(0, "film", list(films))
        for column, threshold in enumerate([] if thresholds is None else thresholds):
            values = probabilities[:, column]
            above = pd.Series(values >= threshold, dtype="boolean")
            table[ABOVE_PREFIX + self.findings[column]] = above.mask(np.isnan(values) | np.isnan(threshold))
        table["error"] = pd.Series(list(errors), dtype="string")
        table["warning"] = pd.Series([warning or None for warning in warnings], dtype="string")
        return table


def _log_odds(probabilities: np.ndarray) -> NDArray[np.float64]:
    """Log-odds of probabilities; those beyond 0.0001 and 0.9999 count as these, where nothing hangs on differences."""
    clipped = np.clip(np.asarray(probabilities, np.float64), 1e-4, 1 - 1e-4)
    return np.log(clipped / (1 - clipped))
