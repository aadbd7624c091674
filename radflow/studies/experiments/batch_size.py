"""Batch size on one node: accuracy, validation loss and speed (section III-A1, Figures 3 to 5).

The paper trains DenseNet-121 by Adam at .0005 for a batch of 8 and doubles the rate with the batch. It claims that
batches of 8 and 16 give the best AUCs, that accuracy falls and validation loss rises with the batch, and that larger
batches are faster.

    mlflow run . -e study -P name=batch-size
    mlflow run . -e study -P name=batch-size -P scale=paper -P data=FOLDER

On two cores the sample takes 19 minutes (18 trainings of 4 epochs, workers=2). The full protocol is 18
trainings of 10 epochs on ChestX-ray14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from radflow.plots.arms import Panel, epochs_figure, panels_figure
from radflow.studies.experiment import Arm, Experiment, ImageNet, Protocol
from radflow.studies.figures import auc_by_finding_figure
from radflow.studies.outcome import LOSS, SPEED, Outcome
from radflow.studies.verdicts import Evidence, more_accurate, trend

BATCHES = (8, 16, 32, 64, 128, 256)
PAPERS_RULE = {"optimizer": "adam", "base_lr": 0.0005, "base_batch": 8, "lr_scaling": "linear", "warmup_epochs": 0}
ARMS = tuple(Arm(f"BZ {batch}", {"bz": batch}, "train") for batch in BATCHES)


def judge(outcome: Outcome) -> Sequence[Evidence]:
    """The claims of section III-A1."""
    arms = [arm.name for arm in ARMS]
    losses, speeds = (
        {arm: of(arm, key) for arm in arms} for of, key in ((outcome.best, LOSS), (outcome.median, SPEED))
    )
    return [
        more_accurate("A batch of 8 gives better AUCs than one of 256.", outcome, "BZ 8", "BZ 256"),
        more_accurate("A batch of 16 gives better AUCs than one of 64.", outcome, "BZ 16", "BZ 64"),
        trend(
            "Accuracy falls with the batch size.", outcome, arms, {arm: outcome.test_aucs(arm) for arm in arms}, False
        ),
        trend("Validation loss rises with the batch size.", outcome, arms, losses, True),
        trend("Larger batches train more images a second.", outcome, arms, speeds, True),
    ]


def draw(outcome: Outcome) -> Mapping[str, Figure]:
    """As Figures 3 to 5, and the trends in one."""
    return {
        "auc": auc_by_finding_figure(outcome, "AUC by finding for each batch size (as Figure 3)"),
        "validation_loss": epochs_figure(
            {arm: outcome.curves(arm, LOSS) for arm in outcome.arms},
            "Validation loss (binary cross-entropy)",
            "Validation loss by epoch (as Figure 4)",
        ),
        "trends": panels_figure(
            [
                Panel("Mean test AUC", {arm: outcome.test_aucs(arm) for arm in outcome.arms}, is_ordered=True),
                Panel(
                    "Images per second, training",
                    {arm: outcome.median(arm, SPEED) for arm in outcome.arms},
                    is_ordered=True,
                ),
            ],
            "Accuracy and speed by batch size",
        ),
    }


EXPERIMENT = Experiment(
    title="Batch size on one node",
    source="section III-A1, Figures 3 to 5",
    description=__doc__ or "",
    paper=(
        "Figure 3 has the AUC of each finding for batch sizes from 8 to 256: highest for 8 and 16, lower with each "
        "doubling. Figure 4 has the validation loss by epoch, which is higher for larger batches."
    ),
    reduced=Protocol(ARMS, seeds=3, settings={**PAPERS_RULE, "epochs": 4}),
    full=Protocol(ARMS, seeds=3, settings={**PAPERS_RULE, "epochs": 10, "weights": ImageNet()}),
    judge=judge,
    draw=draw,
)
