"""Predictions made of arrays, and films of patients drawn by chance."""

from __future__ import annotations

import numpy as np
from scipy import special

from radflow.evaluation.predictions import Predictions


def predictions_of(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray | None = None,
    known: np.ndarray | None = None,
    **columns: np.ndarray,
) -> Predictions:
    """Predictions of findings A, B, ...; each film is of a patient of its own unless `patients` say so."""
    films, findings = labels.shape
    names = np.arange(films).astype(str)
    return Predictions(
        findings=tuple("ABCDEFGHIJKLMN"[:findings]),
        image_ids=names,
        patient_ids=names if patients is None else patients.astype(str),
        splits=np.full(films, "test"),
        labels=labels,
        probabilities=probabilities,
        known=np.ones(labels.shape, bool) if known is None else known,
        **columns,
    )


def drawn_predictions(
    films: int,
    films_per_patient: int,
    chance: np.random.Generator,
    slope: float = 1.0,
    level: float = -2.0,
    findings: int = 1,
) -> Predictions:
    """Films whose patients differ in log-odds; a `slope` of 1 makes the probabilities true, a larger one too sure."""
    patients = np.arange(films) // films_per_patient
    odds = level + chance.normal(0, 1, (patients[-1] + 1, findings))[patients] + chance.normal(0, 1, (films, findings))
    labels = chance.random((films, findings)) < special.expit(odds)
    return predictions_of(labels, special.expit(slope * odds), patients)
