"""Accuracy and time against the global batch: the auto rule, the paper's linear scaling, and more epochs (beyond it).

Two things are lost when the batch grows: the learning rate that suited a small one, and optimiser steps. At equal
epochs, and so at equal images, the auto rule is held against Adam with linear scaling; with as many epochs as the rule
takes of itself (`epochs=auto`) the steps come back, and are paid for in time.

    mlflow run . -e study -P name=large-batch

On two cores the sample takes about 40 minutes (27 trainings, workers=2). The full protocol is GBZ 64 to 8,192 on
ChestX-ray14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from radflow.plots.arms import lines_figure
from radflow.studies.experiment import Arm, Experiment, Protocol
from radflow.studies.experiments.batch_size import PAPERS_RULE
from radflow.studies.outcome import SECONDS, Outcome
from radflow.studies.verdicts import Evidence, as_accurate, more_accurate, trend, untested


def arms(batches: Sequence[int], epochs: int) -> tuple[Arm, ...]:
    """Each way at each global batch."""
    return (
        *(Arm(f"auto, GBZ {batch}", {"gbz": batch, "epochs": epochs}) for batch in batches),
        *(Arm(f"linear, GBZ {batch}", {"gbz": batch, "epochs": epochs, **PAPERS_RULE}) for batch in batches),
        *(Arm(f"auto epochs, GBZ {batch}", {"gbz": batch}) for batch in batches[1:]),
    )


LINES = {"auto": "auto rule", "linear": "linear scaling", "auto epochs": "auto rule, its own epochs"}
REDUCED, FULL = (32, 90, 180, 450), (64, 512, 2048, 4096, 8192)


def judge(outcome: Outcome) -> Sequence[Evidence]:
    """The paper's claim that large batches lose accuracy, and ours that the rule keeps it."""
    claim = "The auto rule keeps the accuracy of a small batch."
    batches = [batch for batch in sorted({*REDUCED, *FULL}) if f"auto, GBZ {batch}" in outcome.arms]
    if len(batches) < 2:
        return [untested(claim, f"{len(batches)} global batches have a model")]
    small, largest = batches[0], batches[-1]
    linear = [f"linear, GBZ {batch}" for batch in batches]
    return [
        trend(
            "Accuracy falls with the batch at equal epochs (linear scaling).",
            outcome,
            linear,
            {arm: outcome.test_aucs(arm) for arm in linear},
            False,
        ),
        *(
            more_accurate(
                f"The auto rule is more accurate than linear scaling at GBZ {batch}.",
                outcome,
                f"auto, GBZ {batch}",
                f"linear, GBZ {batch}",
            )
            for batch in batches[1:]
        ),
        as_accurate(
            f"With its own epochs the auto rule is within .02 of GBZ {small} at GBZ {largest}.",
            outcome,
            f"auto epochs, GBZ {largest}",
            f"auto, GBZ {small}",
            0.02,
        ),
    ]


def draw(outcome: Outcome) -> Mapping[str, Figure]:
    """Accuracy and time of a whole training against the global batch."""
    panels: dict[str, dict[str, dict[float, Sequence[float]]]] = {"Mean test AUC": {}, "Minutes of training": {}}
    for arm in outcome.arms:
        way, _, batch = arm.partition(", GBZ ")
        for panel, values in zip(panels.values(), (outcome.test_aucs(arm), _minutes(outcome, arm)), strict=True):
            panel.setdefault(LINES[way], {})[int(batch)] = values
    title = "Accuracy and time by global batch: at equal epochs, and with the rule's own"
    return {"by_global_batch": lines_figure(panels, "GBZ", title)}


def _minutes(outcome: Outcome, arm: str) -> list[float]:
    return [sum(result.by_epoch(SECONDS)) / 60 for result in outcome.of(arm)]


EXPERIMENT = Experiment(
    title="Large batches by rule",
    source="section III-B, Figure 10, and beyond it",
    description=__doc__ or "",
    paper="The paper has no figure of it; Figure 10 has the loss of accuracy with the batch.",
    reduced=Protocol(arms(REDUCED, 6), seeds=3),
    full=Protocol(arms(FULL, 10), seeds=3),
    judge=judge,
    draw=draw,
)
