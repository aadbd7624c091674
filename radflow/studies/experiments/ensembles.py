"""Ensembles: of seeds, and the collapsed ensembles of cyclic learning rates (beyond section V).

The paper leaves collapsed ensembles (Codreanu et al. 2017, arXiv:1711.04291) to future work: models at the ends of the
cycles of one training are averaged into one. Beside it stands the mean probability of models of several seeds, which
costs as many trainings, and predictions, as it has members.

    mlflow run . -e study -P name=ensembles

On two cores the sample takes 15 minutes (8 trainings of 8 epochs, workers=2). The full protocol is 20 epochs on
ChestX-ray14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from radflow.evaluation.auc import auc_per_finding, mean_auc
from radflow.evaluation.predictions import Predictions
from radflow.plots.arms import Panel, panels_figure
from radflow.studies.experiment import Arm, Experiment, Protocol
from radflow.studies.outcome import Outcome
from radflow.studies.verdicts import Evidence, as_accurate, better_predictions, more_accurate, untested

SINGLE, COLLAPSED, TOGETHER = "single models", "collapsed ensembles", "all seeds together"


def arms(epochs: int, cycles: int) -> tuple[Arm, ...]:
    """Plain trainings, and as long ones in cycles."""
    return (
        Arm(SINGLE, {"epochs": epochs}),
        Arm(
            COLLAPSED,
            {"epochs": epochs, "schedule": "cyclic", "cycles": cycles, "snapshots": cycles - 1, "warmup_epochs": 0},
        ),
    )


def together(models: Sequence[Predictions]) -> Predictions:
    """What the mean probability of several models says of the same films."""
    return replace(models[0], probabilities=np.mean([each.probabilities for each in models], axis=0))


def judge(outcome: Outcome) -> Sequence[Evidence]:
    """Whether ensembles are worth what they cost."""
    singles = outcome.predictions(SINGLE)
    claim = "The mean of all seeds is more accurate than its members."
    if len(singles) < 2:
        return [untested(claim, "one seed is no ensemble")]
    return [
        better_predictions(claim, [together(singles)] * len(singles), singles, TOGETHER, SINGLE),
        more_accurate("Collapsed ensembles are more accurate than plain training.", outcome, COLLAPSED, SINGLE),
        as_accurate("Collapsed ensembles are as accurate as plain training.", outcome, COLLAPSED, SINGLE),
    ]


def draw(outcome: Outcome) -> Mapping[str, Figure]:
    """Accuracy of members and ensembles."""
    aucs = {arm: outcome.test_aucs(arm) for arm in outcome.arms}
    if len(singles := outcome.predictions(SINGLE)) > 1:
        aucs[TOGETHER] = [mean_auc(auc_per_finding(together(singles)))]
    return {"accuracy": panels_figure([Panel("Mean test AUC", aucs)], "Single models and ensembles")}


EXPERIMENT = Experiment(
    title="Ensembles",
    source="section V, future work",
    description=__doc__ or "",
    paper="The paper has no figure of it.",
    reduced=Protocol(arms(8, 4), seeds=4, settings={"gbz": 64}),
    full=Protocol(arms(20, 5), seeds=4, settings={"gbz": 64}),
    judge=judge,
    draw=draw,
)
