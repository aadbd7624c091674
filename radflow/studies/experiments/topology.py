"""VGG-16, which has no batch normalisation, against DenseNet-121 at large batches (section III-C, Figures 14 and 15).

The paper trains VGG-16 from ImageNet's weights by AdaDelta, with five epochs of warm-up to .5, and claims that it is
more accurate than distributed DenseNet-121, that it beats DenseNet-121 with BZ 8 in four findings, that it is 6.29
times faster than DenseNet-121 at GBZ 4,096, and 293 times faster than DenseNet-121 with BZ 8 in one process.

    mlflow run . -e study -P name=topology -P imagenet=vgg16=vgg16_notop.weights.h5

The weights come from Keras' servers, or from a file as above. On two cores the sample takes 20 minutes (9 trainings,
workers=2; GBZ 180 stands for 4,096). The full protocol is 60 epochs on ChestX-ray14, at GBZ 8,192 for VGG-16 and 4,096
for DenseNet-121.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from radflow.plots.arms import Panel, panels_figure
from radflow.studies.experiment import Arm, Experiment, ImageNet, Protocol
from radflow.studies.experiments.batch_size import PAPERS_RULE
from radflow.studies.figures import auc_by_finding_figure
from radflow.studies.outcome import SPEED, Outcome
from radflow.studies.verdicts import Evidence, counted, more_accurate, times, untested

VGG, DENSENET, SINGLE = "VGG-16, large batch", "DenseNet-121, large batch", "DenseNet-121, BZ 8"
ADADELTA = {"optimizer": "adadelta", "base_lr": 0.5, "lr_scaling": "none", "schedule": "step"}
WANTED = 4
"""Findings in which VGG-16 beats the single process, by the paper."""


def arms(vgg_batch: int, densenet_batch: int, epochs: int, single_epochs: int) -> tuple[Arm, ...]:
    """Both networks at large batches, and the yardstick."""
    large = {**ADADELTA, "warmup_epochs": 5, "epochs": epochs}
    return (
        Arm(VGG, {"arch": "vgg16", "weights": ImageNet(), "gbz": vgg_batch, **large}),
        Arm(DENSENET, {"gbz": densenet_batch, **large}),
        Arm(SINGLE, {"bz": 8, "epochs": single_epochs, **PAPERS_RULE}, "train"),
    )


def judge(outcome: Outcome) -> Sequence[Evidence]:
    """The claims of section III-C on networks."""
    speeds = {arm: outcome.median(arm, SPEED) for arm in (VGG, DENSENET, SINGLE)}
    return [
        more_accurate("VGG-16 is more accurate than DenseNet-121 at large batches.", outcome, VGG, DENSENET),
        _findings_won(outcome),
        times("VGG-16 trains faster than DenseNet-121 at large batches.", "images/s", speeds, VGG, DENSENET),
        times("VGG-16 is 6.29 times faster than DenseNet-121.", "images/s", speeds, VGG, DENSENET, 6.29),
        times("VGG-16 at a large batch is faster than DenseNet-121 with BZ 8.", "images/s", speeds, VGG, SINGLE),
        untested("It is 293 times faster on 64 ranks.", "`radflow scale` predicts it for your machines"),
    ]


def _findings_won(outcome: Outcome) -> Evidence:
    claim = f"VGG-16 beats DenseNet-121 with BZ 8 in {WANTED} findings or more."
    if not {VGG, SINGLE} <= set(outcome.arms):
        return untested(claim, "one of the two has no model")
    ours, single = (outcome.finding_aucs(arm) for arm in (VGG, SINGLE))
    won = [finding for finding in ours if ours[finding].auc > single[finding].auc]
    return counted(claim, len(won) >= WANTED, f"in {len(won)} of {len(ours)}: {', '.join(won) or 'none'}")


def draw(outcome: Outcome) -> Mapping[str, Figure]:
    """As Figures 14 and 15."""
    return {
        "auc_by_finding": auc_by_finding_figure(outcome, "AUC by finding (as Figure 14)"),
        "throughput": panels_figure(
            [
                Panel("Images per second, training", {arm: outcome.median(arm, SPEED) for arm in outcome.arms}),
                Panel("Mean test AUC", {arm: outcome.test_aucs(arm) for arm in outcome.arms}),
            ],
            "Speed and accuracy (as Figure 15)",
        ),
    }


EXPERIMENT = Experiment(
    title="VGG-16 against DenseNet-121",
    source="section III-C, Figures 14 and 15",
    description=__doc__ or "",
    paper=(
        "Figure 14 has the AUC of each finding for VGG-16 at GBZ 8,192 beside DenseNet-121 at GBZ 4,096 (a) and with "
        "BZ 8 (b): above the former, and above the latter in four findings. Figure 15 has their speed: VGG-16's is "
        "6.29 and 293 times that of the two."
    ),
    reduced=Protocol(arms(180, 180, 10, 6), seeds=3),
    full=Protocol(arms(8192, 4096, 60, 10), seeds=3, settings={"weights": ImageNet()}),
    judge=judge,
    draw=draw,
)
