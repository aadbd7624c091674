"""ResNet-50 beside DenseNet-121 and VGG-16 at a large batch (beyond section V).

The paper asks whether other topologies, "such as ResNet", might yield more accurate models.

    mlflow run . -e study -P name=resnet

On two cores the sample takes half an hour (9 trainings of 6 epochs at GBZ 64, from random weights; workers=2). The full
protocol is GBZ 4,096 for 10 epochs on ChestX-ray14, from ImageNet's weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from radflow.plots.arms import Panel, panels_figure
from radflow.studies.experiment import Arm, Experiment, ImageNet, Protocol
from radflow.studies.figures import auc_by_finding_figure
from radflow.studies.outcome import SPEED, Outcome
from radflow.studies.verdicts import Evidence, more_accurate, times

RESNET, DENSENET, VGG = "ResNet-50", "DenseNet-121", "VGG-16"
ARMS = (
    Arm(RESNET, {"arch": "resnet50"}),
    Arm(DENSENET, {"arch": "densenet121"}),
    Arm(VGG, {"arch": "vgg16"}),
)


def judge(outcome: Outcome) -> Sequence[Evidence]:
    """The paper's question, both ways."""
    speeds = {arm: outcome.median(arm, SPEED) for arm in (RESNET, VGG)}
    return [
        more_accurate("ResNet-50 is more accurate than DenseNet-121.", outcome, RESNET, DENSENET),
        more_accurate("ResNet-50 is more accurate than VGG-16.", outcome, RESNET, VGG),
        times("ResNet-50 trains faster than VGG-16.", "images/s", speeds, RESNET, VGG),
    ]


def draw(outcome: Outcome) -> Mapping[str, Figure]:
    """Accuracy by finding, and speed."""
    return {
        "auc_by_finding": auc_by_finding_figure(outcome, "AUC by finding for three networks"),
        "speed": panels_figure(
            [
                Panel("Images per second, training", {arm: outcome.median(arm, SPEED) for arm in outcome.arms}),
                Panel("Mean test AUC", {arm: outcome.test_aucs(arm) for arm in outcome.arms}),
            ],
            "Speed and accuracy of three networks",
        ),
    }


EXPERIMENT = Experiment(
    title="ResNet-50 beside the paper's networks",
    source="section V, future work",
    description=__doc__ or "",
    paper="The paper has no figure of it.",
    reduced=Protocol(ARMS, seeds=3, settings={"gbz": 64, "epochs": 6}),
    full=Protocol(ARMS, seeds=3, settings={"gbz": 4096, "epochs": 10, "weights": ImageNet()}),
    judge=judge,
    draw=draw,
)
