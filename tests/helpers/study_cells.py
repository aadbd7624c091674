"""Cells of studies as if they had been trained: histories and predictions that a test chooses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import stats

from benchmarks.drawn_predictions import predictions_of
from radflow.evaluation.predictions import Predictions
from radflow.studies.cells import Cell, CellResult
from radflow.studies.experiment import Protocol
from radflow.studies.films import FilmCounts
from radflow.studies.outcome import Outcome

FILMS = FilmCounts("phantoms", 900, 300, {"Mass": 200, "Edema": 100})


def judged(skill: float, seed: int, arm: str = "", films: int = 300) -> Predictions:
    """Two findings, two films a patient, told apart so well; each arm and seed has a noise of its own."""
    chance, own = np.random.default_rng(99), np.random.default_rng([99, seed, *arm.encode()])
    labels = chance.random((films, 2)) < 0.3
    scores = skill * labels + chance.normal(size=labels.shape) + 0.3 * own.normal(size=labels.shape)
    return predictions_of(labels, stats.norm.cdf(scores), np.arange(films) // 2)


def result_of(cell: Cell, skill: float = 1.0, loss: float = 0.3, seconds: float = 10.0) -> CellResult:
    """A cell with so good a model; its numbers differ a little from seed to seed."""
    own = 1 + 0.01 * cell.seed
    history = tuple(
        {
            "epoch": float(epoch),
            "val/loss": loss * own * (1 + 1 / epoch),
            "train/loss": loss * own,
            "val/auc/mean": 0.5 + 0.1 * skill * (1 - 0.5**epoch) + 0.001 * cell.seed,
            "throughput/seconds_per_epoch": seconds * own,
            "throughput/images_per_second": 1000 / (seconds * own),
        }
        for epoch in (1, 2, 3)
    )
    run_id = cell.slug.encode().hex()[:32]
    return CellResult(cell, run_id, history, judged(skill, cell.seed, cell.arm.name), {"optimizer": "adam"})


def diverged(cell: Cell) -> CellResult:
    """A cell whose loss was not finite after an epoch."""
    return CellResult(cell, "0" * 32, ({"epoch": 1.0, "val/loss": float("nan")},), None, {})


def outcome_of(protocol: Protocol, skills: Mapping[str, float], **numbers: Mapping[str, float]) -> Outcome:
    """Every arm of a protocol with all its seeds, as skilful as said, or else alike."""
    cells = [
        Cell(arm, seed, arm.rates[0] if arm.rates else None) for arm in protocol.arms for seed in range(protocol.seeds)
    ]
    results = [
        result_of(
            cell,
            skills.get(cell.arm.name, 1.0),
            **{name: values[cell.arm.name] for name, values in numbers.items() if cell.arm.name in values},
        )
        for cell in cells
    ]
    return Outcome(protocol.arms, tuple(results), FILMS)
