"""How long all numbers of the largest test set take: 25,596 films of 14 findings, as many as ChestX-ray14's test list.

    python -m benchmarks.evaluation

draws predictions of films of 2,844 patients, and times AUC, average precision, Brier score, calibration error, three
operating points a finding and their intervals (1,000 bootstrap replicates), and subgroups.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from benchmarks.drawn_predictions import drawn_predictions
from radflow.evaluation.evaluation import evaluate
from radflow.evaluation.predictions import Predictions
from radflow.evaluation.thresholds import choose_thresholds

FILMS, FILMS_PER_PATIENT, FINDINGS = 25_596, 9, 14


def test_set() -> Predictions:
    """Predictions whose probabilities are too sure of themselves, with what subgroups are made of."""
    chance = np.random.default_rng(0)
    drawn = drawn_predictions(FILMS, FILMS_PER_PATIENT, chance, slope=1.6, level=-3.2, findings=FINDINGS)
    patients = drawn.patient_ids.astype(int)
    return replace(
        drawn,
        sexes=np.array(["F", "M"])[patients % 2],
        ages=(patients % 90).astype(np.int16),
        views=np.array(["PA", "AP"])[chance.integers(0, 2, FILMS)],
    )


def main() -> None:
    predictions = test_set()
    thresholds = choose_thresholds(predictions)
    for what, columns in (("all numbers with intervals", {}), ("the same with subgroups by sex, age and view", None)):
        started = time.perf_counter()
        evaluate(predictions, predictions, thresholds, columns)
        print(f"{what}: {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
