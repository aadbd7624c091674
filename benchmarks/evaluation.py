"""How long all numbers of the largest test set take: 25,596 films of 14 findings, as many as ChestX-ray14's test list.

    python -m benchmarks.evaluation

draws predictions of films of 2,797 patients, and times AUC, average precision, Brier score, calibration error, three
operating points a finding and their intervals (1,000 bootstrap replicates), and subgroups.
"""

from __future__ import annotations

import time

import numpy as np
from scipy import special

from radflow.evaluation.evaluation import evaluate
from radflow.evaluation.predictions import Predictions
from radflow.evaluation.thresholds import choose_thresholds

FILMS, PATIENTS, FINDINGS = 25_596, 2_797, 14


def drawn_predictions() -> Predictions:
    """Predictions whose probabilities are too sure of themselves."""
    chance = np.random.default_rng(0)
    patients = np.sort(chance.integers(0, PATIENTS, FILMS))
    odds = -3.2 + chance.normal(size=(PATIENTS, FINDINGS))[patients] + chance.normal(size=(FILMS, FINDINGS))
    return Predictions(
        findings=tuple(f"finding {number}" for number in range(FINDINGS)),
        image_ids=np.arange(FILMS).astype(str),
        patient_ids=patients.astype(str),
        splits=np.full(FILMS, "test"),
        labels=chance.random(odds.shape) < special.expit(odds),
        probabilities=special.expit(1.6 * odds),
        sexes=np.array(["F", "M"])[patients % 2],
        ages=(patients % 90).astype(np.int16),
        views=np.array(["PA", "AP"])[chance.integers(0, 2, FILMS)],
    )


def main() -> None:
    predictions = drawn_predictions()
    thresholds = choose_thresholds(predictions)
    for what, columns in (("all numbers with intervals", {}), ("the same with subgroups by sex, age and view", None)):
        started = time.perf_counter()
        evaluate(predictions, predictions, thresholds, columns)
        print(f"{what}: {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
