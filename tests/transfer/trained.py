"""Finished trainings without training: histories and predictions that a test chooses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from radflow.evaluation.predictions import Predictions
from radflow.transfer.arms import Arm, Trained

PATIENTS, CROPS_OF_PATIENT = 20, 6


def predictions(separation: float, seed: int) -> Predictions:
    """Test crops of 20 patients, three of a lesion and three of normal tissue each, told apart so well."""
    random = np.random.default_rng(seed)
    patients = [f"P_{number:05d}" for number in range(PATIENTS) for _ in range(CROPS_OF_PATIENT)]
    kinds = ["lesion1"] * 3 + ["normal"] * 3
    lesions = [f"Mass-Test_{patient}_LEFT_CC:{kinds[place % 6]}" for place, patient in enumerate(patients)]
    labels = np.array([lesion.endswith("lesion1") for lesion in lesions])[:, np.newaxis]
    hard = np.random.default_rng(99).normal(size=labels.shape)
    scores = 1 / (1 + np.exp(-(separation * (labels - 0.5) + hard + 0.3 * random.normal(size=labels.shape))))
    films = [lesion.partition(":")[0] for lesion in lesions]
    ids = [f"{lesion}:crop{place % 3}" for place, lesion in enumerate(lesions)]
    split = np.full(len(ids), "test")
    shown = [lesion if label else "" for lesion, label in zip(lesions, labels[:, 0], strict=True)]
    return Predictions(("Tumour",), np.array(ids), np.array(patients), split, labels, scores, films, shown)


def trained(arm: Arm, seed: int, areas: Sequence[float], separation: float) -> Trained:
    """A training whose validation AUC went so."""
    history = tuple(
        {
            "epoch": float(number),
            "val/loss": 1 - area,
            "val/auc/mean": area,
            "throughput/images_per_second": 40.0 + seed,
            "throughput/seconds_per_epoch": 30.0,
        }
        for number, area in enumerate(areas, start=1)
    )
    return Trained(arm, seed, f"run-{arm}-{seed}", history, predictions(separation, seed + 10 * (arm == "scratch")))
