"""The file of trainings that `benchmarks.large_batch` has seen end: a line each, with all that its table needs.

A training takes a quarter of an hour and more of a core, all of them days: machines may share them, one after another,
by this file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from radflow.evaluation.predictions import read_predictions
from radflow.evaluation.repeated import ResampledAuc, resample
from radflow.models.precision import choose_precision
from radflow.training.history import HISTORY_FILE, read_epochs
from radflow.training.job_folder import PREDICTIONS_FILE, Job

UNIT = 1e-5
"""Resampled AUCs are rounded to this; their spread is some hundred times as large."""


@dataclass(frozen=True)
class Cell:
    """One training."""

    way: str
    steps: int
    """Optimiser steps of an epoch."""
    seed: int
    rate: float | None = None
    """Peak learning rate, or with linear scaling that for 8 films; None leaves it to the rule."""

    @property
    def name(self) -> str:
        rate = "" if self.rate is None else f"-{self.rate:g}"
        return f"{self.way}{rate}-steps{self.steps}-seed{self.seed}"


@dataclass(frozen=True)
class Result:
    """What a training came to."""

    validation_auc: float
    """Mean AUC of the best epoch."""
    test: ResampledAuc
    peak_lr: float
    total_steps: int
    precision: str

    @classmethod
    def of_job(cls, job: Job) -> Result:
        """That of a finished job."""
        areas = [epoch["val/auc/mean"] for epoch in read_epochs(job.folder / HISTORY_FILE)]
        return cls(
            validation_auc=max(area or 0.0 for area in areas),
            test=resample([read_predictions(job.folder / PREDICTIONS_FILE)])[0],
            peak_lr=job.settings["peak_lr"],
            total_steps=job.settings["epochs"] * job.settings["steps_per_epoch"],
            precision=choose_precision(job.settings["precision"]),  # on the machine that has trained it
        )

    def to_json(self) -> dict[str, Any]:
        fields = asdict(self)
        fields["test"]["resampled"] = np.rint(self.test.resampled / UNIT).astype(int).tolist()
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Result:
        test = fields["test"]
        return cls(**{**fields, "test": ResampledAuc(**{**test, "resampled": np.array(test["resampled"]) * UNIT})})


class ResultsFile:
    """Results by training, on disk; None for a training that diverged.

    Raises
    ------
    SystemExit
        Where the file is of trainings that cannot be compared with these: `conditions` are not those of its lines.
    """

    def __init__(self, path: Path, conditions: dict[str, Any]) -> None:
        self.path = path
        self.conditions = conditions
        self.results = {}
        for cell, theirs, result in read_results(path):
            if theirs != conditions:
                raise SystemExit(f"{path} holds trainings with {theirs}, not {conditions}; give another file")
            self.results[cell] = result

    def add(self, cell: Cell, result: Result | None) -> None:
        """Keep the result of a training that the file does not have yet; None if it diverged."""
        self.results[cell] = result
        line = {"cell": asdict(cell), "conditions": self.conditions, "result": result and result.to_json()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")


def read_results(path: Path) -> list[tuple[Cell, dict[str, Any], Result | None]]:
    """Each line's training, its conditions and its result."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        (Cell(**line["cell"]), line["conditions"], line["result"] and Result.from_json(line["result"]))
        for line in lines
    ]
