"""How often the 95 % intervals of a test cover the truth: simulated tests of many kinds, each with a known truth.

    python -m benchmarks.interval_coverage --tests=2000

The truth is that of a million films of the same kind. With 2,000 tests a coverage is known to one point.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import special
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.drawn_predictions import drawn_predictions
from radflow.cpu import available_cores
from radflow.evaluation.auc import auc_per_finding
from radflow.evaluation.estimates import Estimate
from radflow.evaluation.measures import measure, probability_groups
from radflow.evaluation.predictions import Predictions
from radflow.evaluation.thresholds import operating_points

FILMS_OF_TRUTH = 1_000_000
REPLICATES = 400
THRESHOLD = 0.3


@dataclass(frozen=True)
class Kind:
    """One kind of test set."""

    films: int
    films_per_patient: int
    slope: float
    """That of the log-odds; 1 makes the probabilities true, a larger one too sure of themselves."""
    level: float = -2.0
    """Mean log-odds: how rare the finding is."""

    def draw(self, films: int, seed: int) -> Predictions:
        return drawn_predictions(films, self.films_per_patient, np.random.default_rng(seed), self.slope, self.level)

    def __str__(self) -> str:
        return f"{self.films:,} films, {self.films_per_patient} a patient, slope {self.slope}, level {self.level:.0f}"


KINDS = (Kind(1000, 1, 2.0), Kind(1500, 3, 2.0), Kind(1500, 3, 1.0), Kind(3000, 3, 1.15), Kind(3000, 5, 1.4, -3.0))


def true_values(kind: Kind) -> dict[str, float]:
    """What every estimate of such tests would be with endless films."""
    many = kind.draw(FILMS_OF_TRUTH, seed=1)
    labels, probabilities = many.labels[:, 0], many.probabilities[:, 0].astype(np.float64)
    chances = special.expit(special.logit(np.clip(probabilities, 1e-12, 1 - 1e-12)) / kind.slope)
    excess = np.bincount(probability_groups(probabilities), weights=probabilities - chances)
    called = many.probabilities[:, 0] >= THRESHOLD
    return {
        "auc": roc_auc_score(labels, probabilities),
        "average_precision": average_precision_score(labels, probabilities),
        "brier": np.mean(chances * (1 - probabilities) ** 2 + (1 - chances) * probabilities**2),
        "calibration_error": np.abs(excess).sum() / FILMS_OF_TRUTH,
        "sensitivity": called[labels].mean(),
        "specificity": (~called[~labels]).mean(),
        "ppv": labels[called].mean(),
        "npv": (~labels[~called]).mean(),
    }


def estimates(kind: Kind, seed: int) -> dict[str, Estimate]:
    """All estimates of one simulated test."""
    drawn = kind.draw(kind.films, seed)
    points = operating_points(drawn, np.array([THRESHOLD]))["A"]
    return {"auc": auc_per_finding(drawn)["A"], **vars(measure(drawn, REPLICATES, seed)["A"]), **vars(points)}


def covers(kind: Kind, truth: dict[str, float], seed: int) -> list[bool]:
    """Whether the interval of each estimate of one simulated test covers the truth."""
    found = estimates(kind, seed)
    return [found[name].low <= value <= found[name].high for name, value in truth.items()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=100)
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.tests)
    with ProcessPoolExecutor(available_cores()) as pool:
        for kind in KINDS:
            truth = true_values(kind)
            covered = np.mean(list(pool.map(partial(covers, kind, truth), seeds, chunksize=20)), axis=0)
            shares = (f"{name} {share:.3f}" for name, share in zip(truth, covered, strict=True))
            print(f"{kind}: {', '.join(shares)}", flush=True)


if __name__ == "__main__":
    main()
