"""The table and the conclusion of a comparison say what the numbers say, and no more."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from trained import predictions, trained

from radflow.evaluation.repeated import compare_repeated
from radflow.plots.arms import epochs_figure
from radflow.transfer.config import TransferConfig
from radflow.transfer.figures import throughput_figure
from radflow.transfer.report import conclusion, epochs_to, reached_by_all, table_of

CONFIG = TransferConfig(source="compare", pretrained="models:/radflow-chest-densenet121/3")


def study(separation_scratch: float):
    """Three seeds; pre-trained bodies are faster in all, and better in the end if the others separate less."""
    half = [trained("pretrained", seed, [0.8, 0.9, 0.92], 2.0) for seed in range(3)]
    return half + [trained("scratch", seed, [0.6, 0.7, 0.91], separation_scratch) for seed in range(3)]


def text_of(all_trained, goal: float, leakage: str = "") -> str:
    tested = compare_repeated(
        *([each.predictions for each in all_trained if each.arm == arm] for arm in ("pretrained", "scratch"))
    )
    return conclusion(table_of(all_trained, goal), tested, goal, "phantom_mammograms", CONFIG, leakage)


def test_the_rows_are_counted_from_history_and_predictions():
    rows = table_of(study(2.0), goal=0.9).set_index(["body", "seed"])
    row = rows.loc[("from scratch", 1)]
    assert (row["epochs_to_target"], row["best_val_auc"], row["first_val_loss"]) == (3, 0.91, pytest.approx(0.4))
    assert rows.loc[("pre-trained", 1), "epochs_to_target"] == 2
    made = predictions(2.0, 11)
    assert row["test_auc_per_crop"] == pytest.approx(roc_auc_score(made.labels[:, 0], made.probabilities[:, 0]))
    by_lesion = made.probabilities[:, 0].astype(float).reshape(-1, 3).mean(axis=1)
    assert row["test_auc_per_lesion"] == pytest.approx(roc_auc_score(made.labels[::3, 0], by_lesion))
    assert row["test_auc_per_film"] == row["test_auc_per_lesion"]  # one lesion a film


def test_no_difference_is_no_evidence():
    text = text_of(study(2.0), 0.9)
    assert "no evidence" in text
    assert "paired t test" in text
    assert "models:/radflow-chest-densenet121/3" in text
    assert "after 2.0 epochs pre-trained and 3.0 epochs from scratch" in text
    assert "sooner with pre-training in 3 of 3" in text


def test_test_patients_whom_the_source_has_seen_come_first():
    leakage = "3 of 20 test patients were seen in training (3 trained on, 0 validated on)"
    assert text_of(study(2.0), 0.9, leakage).startswith(f"**Leakage: {leakage}.**")
    assert "Leakage" not in text_of(study(2.0), 0.9)


@pytest.mark.parametrize(("separation", "verdict"), [(0.0, "improves"), (6.0, "worsens")])
def test_a_difference_is_evidence_in_its_direction(separation, verdict):
    text = text_of(study(separation), 0.9)
    assert f"evidence that pre-training {verdict} the model" in text
    assert "no evidence" not in text


def test_a_goal_that_is_not_reached_is_said():
    text = text_of(study(2.0), 0.915)
    assert "no epoch (never in 3 of 3) from scratch" in text
    assert "sooner with pre-training in 3 of 3" in text


def test_epochs_to_a_goal():
    assert epochs_to(np.array([0.5, math.nan, 0.8, 0.7, 0.9]), 0.8) == 3
    assert math.isnan(epochs_to(np.array([0.5, math.nan]), 0.8))
    assert reached_by_all(study(2.0)) == pytest.approx(0.91)


def test_figures_show_mean_and_range_of_both_halves():
    curves = {"pre-trained": np.array([[0.8, 0.9], [0.6, 0.8]]), "from scratch": np.array([[0.5, 0.6], [0.5, np.nan]])}
    axes = epochs_figure(curves, "AUC", "title", goal=0.7).axes[0]
    means = {line.get_label(): line.get_ydata() for line in axes.lines if not line.get_label().startswith("_")}
    assert means["pre-trained, mean of 2 seeds"] == pytest.approx([0.7, 0.85])
    assert means["from scratch, mean of 2 seeds"] == pytest.approx([0.5, 0.6])
    assert len(axes.collections) == 2
    minutes = {label: np.array([[1.0, 2.0], [1.0, 2.0]]) for label in curves}
    left, right = throughput_figure({"pre-trained": [40, 42], "from scratch": [41, 39]}, minutes, curves, "title").axes
    assert [patch.get_height() for patch in left.patches] == [41, 40]
    assert right.get_xlabel() == "Minutes of training"
