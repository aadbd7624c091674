"""Mammograms with and without pre-training on chest films (section IV, Figures 16 to 18).

The paper trains DenseNet-121 on crops of CBIS-DDSM with BZ 16 by Adam at .001, and on four ranks with GBZ 64 at .004.
It claims that pre-training converges sooner, that it does not change the final AUC (.95 and .95 on a single node), and
that at GBZ 64 it keeps .94 where training from scratch falls to .90.

    mlflow run . -e study -P name=transfer

On two cores the sample takes 20 minutes (3 trainings on chest films and 12 on crops of mammograms, workers=2).
The full protocol is 10 epochs of each on ChestX-ray14 and CBIS-DDSM (mammograms=FOLDER).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from radflow.plots.arms import Panel, epochs_figure, panels_figure
from radflow.studies.experiment import Arm, Experiment, ImageNet, ModelOf, Protocol
from radflow.studies.outcome import AUC, LOSS, SPEED, Outcome
from radflow.studies.verdicts import Evidence, as_accurate, more_accurate, times

CHEST = "chest films"
PRETRAINED, SCRATCH = "pre-trained, GBZ 16", "from scratch, GBZ 16"
PRETRAINED_LARGE, SCRATCH_LARGE = "pre-trained, GBZ 64", "from scratch, GBZ 64"
CROPS = (PRETRAINED, SCRATCH, PRETRAINED_LARGE, SCRATCH_LARGE)


def arms(crop_epochs: int, chest: Mapping[str, int], chest_weights: Mapping[str, ImageNet]) -> tuple[Arm, ...]:
    """The chest model, and both bodies at both batches."""
    papers = {
        "optimizer": "adam",
        "lr_scaling": "none",
        "warmup_epochs": 0,
        "schedule": "plateau",
        "epochs": crop_epochs,
    }
    small, large = {**papers, "gbz": 16, "base_lr": 0.001}, {**papers, "gbz": 64, "base_lr": 0.004}
    return (
        Arm(CHEST, {**chest, **chest_weights}),
        Arm(PRETRAINED, {**small, "source": ModelOf(CHEST)}, "transfer"),
        Arm(SCRATCH, {**small, "source": "none"}, "transfer"),
        Arm(PRETRAINED_LARGE, {**large, "source": ModelOf(CHEST)}, "transfer"),
        Arm(SCRATCH_LARGE, {**large, "source": "none"}, "transfer"),
    )


def judge(outcome: Outcome) -> Sequence[Evidence]:
    """The claims of section IV."""
    first = {arm: [result.by_epoch(LOSS)[0] for result in outcome.of(arm)] for arm in CROPS}
    return [
        times(
            "Pre-training starts from a lower validation loss (after one epoch).",
            "validation loss",
            first,
            SCRATCH,
            PRETRAINED,
        ),
        as_accurate("Both converge to the same accuracy.", outcome, PRETRAINED, SCRATCH),
        more_accurate("At GBZ 64 pre-training gives the better AUC.", outcome, PRETRAINED_LARGE, SCRATCH_LARGE),
        more_accurate("Without pre-training GBZ 64 loses accuracy.", outcome, SCRATCH, SCRATCH_LARGE),
        as_accurate("With pre-training GBZ 64 keeps it (within .01).", outcome, PRETRAINED, PRETRAINED_LARGE),
    ]


def draw(outcome: Outcome) -> Mapping[str, Figure]:
    """As Figures 16 to 18."""
    known = [arm for arm in CROPS if arm in outcome.arms]
    return {
        "validation_loss": epochs_figure(
            {arm: outcome.curves(arm, LOSS) for arm in known},
            "Validation loss (binary cross-entropy)",
            "Validation loss by epoch (as Figure 16)",
        ),
        "validation_auc": epochs_figure(
            {arm: outcome.curves(arm, AUC) for arm in known}, "Validation AUC", "Validation AUC by epoch (as Figure 17)"
        ),
        "throughput": panels_figure(
            [
                Panel("Images per second, training", {arm: outcome.median(arm, SPEED) for arm in known}),
                Panel("Test AUC per crop", {arm: outcome.test_aucs(arm) for arm in known}),
            ],
            "Speed and accuracy (as Figure 18)",
        ),
    }


EXPERIMENT = Experiment(
    title="Transfer from chest films to mammograms",
    source="section IV, Figures 16 to 18",
    description=__doc__ or "",
    paper=(
        "Figure 16 has the validation loss by epoch: lower and steadier with pre-training. Figure 17 has the AUC with "
        "and without it, which end alike. Figure 18 has the throughput."
    ),
    reduced=Protocol(arms(8, {"gbz": 64, "epochs": 4}, {}), seeds=3),
    full=Protocol(arms(10, {"gbz": 64, "epochs": 10}, {"weights": ImageNet()}), seeds=3),
    judge=judge,
    draw=draw,
)
