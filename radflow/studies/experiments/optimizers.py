"""Optimisers at a large global batch (section III-C, Figure 12), each at the best of several rates.

The paper claims that AdaDelta reaches a far lower validation loss than Adam or SGD with momentum (.159 against .59 of
Adam), at GBZ 4,096 where Adam had 512. Beyond it: LARS, LAMB, AdamW and Muon, and the rates are tuned on validation
films for all alike, so that no optimiser wins by its rate.

    mlflow run . -e study -P name=optimizers

On two cores the sample takes about 50 minutes (38 trainings of 8 epochs of 11 steps, workers=2). The full protocol
is GBZ 4,096 for 10 epochs on ChestX-ray14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from radflow.plots.arms import Panel, epochs_figure, panels_figure
from radflow.studies.experiment import Arm, Experiment, ImageNet, Protocol
from radflow.studies.outcome import LOSS, Outcome
from radflow.studies.verdicts import Evidence, as_accurate, more_accurate, times

RATES = {
    "AdaDelta": ("adadelta", (1.0, 3.0, 10.0)),
    "Adam": ("adam", (0.001, 0.002, 0.004)),
    "SGD with momentum": ("sgd", (0.1, 0.3, 1.0)),
    "LARS": ("lars", (3.0, 10.0, 30.0)),
    "LAMB": ("lamb", (0.02, 0.04, 0.08)),
    "AdamW": ("adamw", (0.001, 0.002, 0.004)),
    "Muon": ("muon", (0.008, 0.016, 0.032)),
}
"""Peak rates tried of each optimiser."""
ARMS = (
    *(
        Arm(name, {"optimizer": optimizer, "lr_scaling": "none"}, rates=rates)
        for name, (optimizer, rates) in RATES.items()
    ),
    Arm(
        "Adam, linear scaling",
        {"optimizer": "adam", "base_lr": 0.0005, "base_batch": 8, "lr_scaling": "linear"},
    ),
)


def judge(outcome: Outcome) -> Sequence[Evidence]:
    """The claims of section III-C, and what is held against them."""
    losses = {arm: outcome.best(arm, LOSS) for arm in outcome.arms}

    def lower(claim: str, better: str, worse: str, at_least: float = 1.0) -> Evidence:
        return times(claim, "validation loss", losses, worse, better, at_least)

    return [
        lower("AdaDelta reaches a lower validation loss than Adam.", "AdaDelta", "Adam"),
        lower("AdaDelta reaches a lower validation loss than SGD.", "AdaDelta", "SGD with momentum"),
        lower(
            "AdaDelta's validation loss is less than half of linearly scaled Adam's.",
            "AdaDelta",
            "Adam, linear scaling",
            2.0,
        ),
        more_accurate("Beyond the paper: LAMB gives better AUCs than AdaDelta.", outcome, "LAMB", "AdaDelta"),
        more_accurate("Beyond the paper: Muon gives better AUCs than Adam at its best rate.", outcome, "Muon", "Adam"),
        as_accurate("Beyond the paper: AdamW gives the same AUCs as Adam.", outcome, "AdamW", "Adam"),
    ]


def draw(outcome: Outcome) -> Mapping[str, Figure]:
    """As Figure 12, and the AUCs."""
    return {
        "validation_loss": epochs_figure(
            {arm: outcome.curves(arm, LOSS) for arm in outcome.arms},
            "Validation loss (binary cross-entropy)",
            "Validation loss by epoch, each optimiser at its best rate (as Figure 12)",
        ),
        "auc": panels_figure(
            [Panel("Mean test AUC", {arm: outcome.test_aucs(arm) for arm in outcome.arms})],
            "Accuracy by optimiser",
        ),
    }


EXPERIMENT = Experiment(
    title="Optimisers at a large global batch",
    source="section III-C, Figure 12",
    description=__doc__ or "",
    paper=(
        "Figure 12 has the validation loss by epoch of AdaDelta, Adam and SGD with momentum: AdaDelta's falls to .159, "
        "the others' stay far above it."
    ),
    reduced=Protocol(ARMS, seeds=3, settings={"gbz": 180, "epochs": 8}),
    full=Protocol(ARMS, seeds=3, settings={"gbz": 4096, "epochs": 10, "weights": ImageNet()}),
    judge=judge,
    draw=draw,
)
