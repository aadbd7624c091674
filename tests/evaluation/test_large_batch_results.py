"""The file by which machines share the trainings of the large-batch benchmark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.large_batch_results import Cell, Result, ResultsFile, read_results
from radflow.evaluation.repeated import ResampledAuc, compare_resampled

CONDITIONS = {"arch": "densenet121", "epochs": 10}
CELL = Cell("lamb", 19, seed=0, rate=0.03)


def result(seed: int) -> Result:
    resampled = np.random.default_rng(seed).normal(0.96, 0.005, 1000)
    return Result(0.95 + seed / 100, ResampledAuc(0.961234567, resampled, 368), 0.03, 190, "mixed_bfloat16")


def test_what_is_kept_gives_the_same_comparison(tmp_path: Path) -> None:
    file = ResultsFile(tmp_path / "measured.jsonl", CONDITIONS)
    file.add(CELL, result(1))
    file.add(replace(CELL, seed=1), result(2))
    one, other = (kept.test for _, _, kept in read_results(file.path) if kept)
    kept, exact = compare_resampled([one], [other]), compare_resampled([result(1).test], [result(2).test])
    assert (kept.difference, kept.patients) == (exact.difference, 368)
    assert kept.between_patients == pytest.approx(exact.between_patients, rel=1e-3)


def test_another_machine_trains_neither_what_has_ended_nor_what_diverged(tmp_path: Path) -> None:
    ResultsFile(tmp_path / "measured.jsonl", CONDITIONS).add(CELL, result(1))
    ResultsFile(tmp_path / "measured.jsonl", CONDITIONS).add(replace(CELL, rate=9.0), None)
    known = ResultsFile(tmp_path / "measured.jsonl", CONDITIONS).results
    assert list(known) == [CELL, replace(CELL, rate=9.0)]
    assert known[replace(CELL, rate=9.0)] is None
    assert known[CELL].validation_auc == 0.96


def test_trainings_under_other_conditions_are_not_taken_for_these(tmp_path: Path) -> None:
    ResultsFile(tmp_path / "measured.jsonl", CONDITIONS).add(CELL, result(1))
    with pytest.raises(SystemExit, match="'epochs': 10"):
        ResultsFile(tmp_path / "measured.jsonl", {**CONDITIONS, "epochs": 20})
