"""What a saved classifier says of itself, beside its weights.

Saved models carry this file, so it imports nothing of radflow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

DESCRIPTION_FILE = "classifier.json"
GOLDEN_FILM_FILE = "golden.png"

DEFAULT_RULE = "youden"
"""Threshold of the `above/<finding>` columns unless another is asked for, as evaluation/thresholds.py has it."""

ABOVE_PREFIX = "above/"
"""Prefix of a finding's name: the column that says whether the finding's probability reaches its threshold."""

GOLDEN_TOLERANCE = 0.25
"""Largest difference in log-odds between the golden film's probabilities here and where the model was saved.

Ten times the most by which float32 and bfloat16 differed (0.023: eight films, a trained VGG-16 and a trained
DenseNet-121); films of half their brightness moved the same networks by 0.45 to 4.3.
"""


SMALLEST = 1e-7
"""Probabilities are taken to be at least so far from 0 and 1 before they are calibrated."""

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
class Calibration:
    """What makes a network's probabilities calibrated ones: logistic(slope * log-odds + offset) of each finding."""

    slopes: NDArray[np.float64] = field(default_factory=lambda: np.array(1.0))
    """float [F], positive, so that the order of films stays; a single 1 with an offset of 0 changes nothing."""
    offsets: NDArray[np.float64] = field(default_factory=lambda: np.array(0.0))

    def __call__(self, probabilities: np.ndarray) -> NDArray[np.float64]:
        """Calibrated probabilities [n, F] of a network's probabilities [n, F], or of its thresholds; NaN stays."""
        clipped = np.clip(np.asarray(probabilities, np.float64), SMALLEST, 1 - SMALLEST)
        log_odds = np.log(clipped / (1 - clipped))
        return 1 / (1 + np.exp(-(self.slopes * log_odds + self.offsets)))


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What the F outputs of a classifier mean.

    Attributes
    ----------
    findings
        Their names, in their order.
    thresholds
        By rule, the network's probability from which each finding counts as present, float [F]; NaN for one without.
    calibration
        What makes the network's probabilities those that people read.
    fit
        How films become square: `pad`, `squash` or `breast`.
    """

    findings: tuple[str, ...]
    thresholds: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    calibration: Calibration = field(default_factory=Calibration)
    fit: Fit = "squash"


@dataclass(frozen=True, kw_only=True)
class Description(Outputs):
    """Description of a classifier of films [size, size].

    Attributes
    ----------
    golden_film
        uint8 [size, size].
    golden_probabilities
        float [F], what the network gave for it when it was saved.
    about
        More words about the model: data digest, version of radflow.
    """

    golden_film: NDArray[np.uint8]
    golden_probabilities: NDArray[np.float64]
    about: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write the description into a model's folder."""
        Image.fromarray(self.golden_film).save(folder / GOLDEN_FILM_FILE)
        content = {
            "findings": self.findings,
            "thresholds": {rule: _without_nan(values) for rule, values in self.thresholds.items()},
            "calibration": {"slopes": self.calibration.slopes.tolist(), "offsets": self.calibration.offsets.tolist()},
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
                findings=tuple(content["findings"]),
                thresholds=_read_thresholds(content["thresholds"]),
                calibration=_read_calibration(content.get("calibration", {}), len(content["findings"])),
                fit=fit_named(content.get("fit", "squash")),
                golden_film=golden_film,
                golden_probabilities=np.array(content["golden_probabilities"], np.float64),
                about=dict(content["about"]),
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

    def shown(self, probabilities: np.ndarray, calibrated: bool = True) -> np.ndarray:
        """The probabilities that people read of a network's probabilities [n, F]."""
        return self.calibration(probabilities) if calibrated else probabilities

    def limits(self, rule: str = DEFAULT_RULE, calibrated: bool = True) -> np.ndarray:
        """The thresholds [F] of a rule among the shown probabilities; NaN for a finding without one."""
        thresholds = self.thresholds.get(rule, np.full(len(self.findings), np.nan))
        return self.shown(thresholds, calibrated)

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
        of_findings = np.asarray(probabilities, np.float64).T
        columns: dict[str, Any] = {"film": list(films), **dict(zip(self.findings, of_findings, strict=True))}
        if thresholds is not None:
            for finding, values, threshold in zip(self.findings, of_findings, thresholds, strict=True):
                unknown = np.isnan(values) | np.isnan(threshold)
                columns[ABOVE_PREFIX + finding] = pd.arrays.BooleanArray(values >= threshold, unknown)
        columns["error"] = pd.array(list(errors), dtype="string")
        columns["warning"] = pd.array([warning or None for warning in warnings], dtype="string")
        return pd.DataFrame(columns)


def _without_nan(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _read_thresholds(content: Any) -> dict[str, NDArray[np.float64]]:
    """Thresholds by rule; an earlier radflow wrote those of one rule alone."""
    by_rule = content if isinstance(content, dict) else {DEFAULT_RULE: content}
    return {str(rule): np.array(values, np.float64) for rule, values in by_rule.items()}  # None becomes NaN


def _read_calibration(content: Any, findings: int) -> Calibration:
    """The calibration; an earlier radflow had none."""
    calibration = Calibration(**{name: np.array(values, np.float64) for name, values in content.items()})
    for name, values in vars(calibration).items():
        if values.shape not in ((), (findings,)):
            raise ValueError(f"{name} of the calibration have shape {values.shape}, expected ({findings},)")
    return calibration


def _log_odds(probabilities: np.ndarray) -> NDArray[np.float64]:
    """Log-odds of probabilities; those beyond 0.0001 and 0.9999 count as these, where nothing hangs on differences."""
    clipped = np.clip(np.asarray(probabilities, np.float64), 1e-4, 1 - 1e-4)
    return np.log(clipped / (1 - clipped))
