"""Normalisation where a rank sees four films: batch, over all ranks, group and instance (beyond section V).

The paper leaves group and instance normalisation to future work, "promising" for large batches. Its own failure is
GBZ 512 with LBZ 4 by batch normalisation.

    mlflow run . -e study -P name=normalisation

On two cores the sample takes about 20 minutes (9 trainings of 5 epochs at GBZ 128, workers=2). There one process of
128 films stands for all ranks, as their statistics together are those of its films; and instance normalisation, which
needs films of 64 px, is left out. The full protocol is GBZ 512 by norm=sync_batch for 10 epochs on ChestX-ray14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from radflow.plots.arms import Panel, epochs_figure, panels_figure
from radflow.studies.experiment import Arm, Experiment, Protocol
from radflow.studies.outcome import LOSS, Outcome
from radflow.studies.verdicts import Evidence, more_accurate

BATCH, ALL_RANKS, GROUP, INSTANCE = "batch", "batch over all ranks", "group", "instance"


def arms(all_ranks: Arm) -> tuple[Arm, ...]:
    """A rank's own normalisations at LBZ 4, and one over all ranks."""
    return (
        Arm(BATCH, {"norm": "batch", "lbz": 4}),
        all_ranks,
        Arm(GROUP, {"norm": "group", "lbz": 4}),
        Arm(INSTANCE, {"norm": "instance", "lbz": 4}, smallest_films=64),
    )


def judge(outcome: Outcome) -> Sequence[Evidence]:
    """What the paper expects of other normalisations."""
    return [
        more_accurate("Group normalisation is promising: better than batch, LBZ 4.", outcome, GROUP, BATCH),
        more_accurate("Instance normalisation is promising: better than batch, LBZ 4.", outcome, INSTANCE, BATCH),
        more_accurate("Statistics over all ranks are better than a rank's own.", outcome, ALL_RANKS, BATCH),
    ]


def draw(outcome: Outcome) -> Mapping[str, Figure]:
    """Accuracy, and the way there."""
    return {
        "accuracy": panels_figure(
            [Panel("Mean test AUC", {arm: outcome.test_aucs(arm) for arm in outcome.arms})],
            "Accuracy by normalisation, LBZ 4",
        ),
        "validation_loss": epochs_figure(
            {arm: outcome.curves(arm, LOSS) for arm in outcome.arms},
            "Validation loss (binary cross-entropy)",
            "Validation loss by epoch",
        ),
    }


EXPERIMENT = Experiment(
    title="Normalisation at small local batches",
    source="section V, future work",
    description=__doc__ or "",
    paper="The paper has no figure of it.",
    reduced=Protocol(
        arms(Arm(ALL_RANKS, {"norm": "batch", "bz": 128}, "train")), seeds=3, settings={"gbz": 128, "epochs": 5}
    ),
    full=Protocol(arms(Arm(ALL_RANKS, {"norm": "sync_batch", "lbz": 4})), seeds=3, settings={"gbz": 512, "epochs": 10}),
    judge=judge,
    draw=draw,
)
