"""Global batch over ranks with local batches of 4 and 16, and in one process (section III-B, Figures 9 to 11).

The paper claims that a larger global batch trains to poorer accuracy, that single-process and distributed training of
the same batch track one another, that LBZ 16 is faster than LBZ 4, and that GBZ 512 with LBZ 4 does not generalise:
each finding no better than a coin. Batch normalisation over four films is why, which `norm=auto` avoids.

    mlflow run . -e study -P name=global-batch
    mlflow run . -e study -P name=global-batch -P scale=paper -P data=FOLDER -P hosts=node1:2,node2:2

On two cores the sample takes about 35 minutes (27 trainings of 4 epochs, workers=2). The full protocol has all
global batches from 32 to 512, for 10 epochs on ChestX-ray14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from radflow.plots.arms import Panel, epochs_figure, panels_figure
from radflow.studies.experiment import Arm, AtMostRanks, Experiment, ImageNet, Protocol
from radflow.studies.experiments.batch_size import PAPERS_RULE
from radflow.studies.figures import auc_by_finding_figure
from radflow.studies.outcome import LOSS, SECONDS, Outcome
from radflow.studies.verdicts import Evidence, as_accurate, times, trend, unable

BATCHES = (32, 64, 128, 256, 512)
REDUCED_BATCHES = (32, 128, 512)


def arms(batches: Sequence[int]) -> tuple[Arm, ...]:
    """Three ways of computing each global batch."""
    return tuple(
        arm
        for batch in batches
        for arm in (
            Arm(f"GBZ {batch}, single", {"bz": batch}, "train"),
            *(
                Arm(f"GBZ {batch}, LBZ {size}", {"gbz": batch, "lbz": size, "np": AtMostRanks(batch // size)})
                for size in (16, 4)
            ),
        )
    )


def judge(outcome: Outcome) -> Sequence[Evidence]:
    """The claims of section III-B."""
    batches = [batch for batch in BATCHES if f"GBZ {batch}, LBZ 16" in outcome.arms]
    names = [f"GBZ {batch}, LBZ 16" for batch in batches]
    seconds = {
        f"LBZ {size}": [value for batch in batches for value in outcome.median(f"GBZ {batch}, LBZ {size}", SECONDS)]
        for size in (4, 16)
    }
    return [
        unable("GBZ 512 with LBZ 4 does not generalise at all.", outcome, "GBZ 512, LBZ 4"),
        trend(
            "Larger global batches train to poorer accuracy (LBZ 16).",
            outcome,
            names,
            {name: outcome.test_aucs(name) for name in names},
            False,
        ),
        as_accurate(
            "Training over ranks tracks a single process (GBZ 128).",
            outcome,
            "GBZ 128, LBZ 16",
            "GBZ 128, single",
            0.02,
        ),
        times("An epoch takes longer with LBZ 4 than with LBZ 16.", "seconds an epoch", seconds, "LBZ 4", "LBZ 16"),
    ]


def draw(outcome: Outcome) -> Mapping[str, Figure]:
    """As Figures 9 to 11."""
    largest = [arm for arm in outcome.arms if arm.startswith("GBZ 512")]
    return {
        "seconds": panels_figure(
            [
                Panel(
                    "Seconds an epoch", {arm: outcome.median(arm, SECONDS) for arm in outcome.arms}, is_logarithmic=True
                )
            ],
            "Time of an epoch by global batch (as Figure 9)",
        ),
        "auc": panels_figure(
            [Panel("Mean test AUC", {arm: outcome.test_aucs(arm) for arm in outcome.arms}, level=0.5)],
            "Accuracy by global batch (summary of Figure 10)",
        ),
        "auc_by_finding": auc_by_finding_figure(outcome, "AUC by finding at GBZ 512 (as Figure 10)", largest),
        "validation_loss": epochs_figure(
            {arm: outcome.curves(arm, LOSS) for arm in largest},
            "Validation loss (binary cross-entropy)",
            "Validation loss by epoch at GBZ 512 (as Figure 11)",
        ),
    }


EXPERIMENT = Experiment(
    title="Global batch over ranks",
    source="section III-B, Figures 9 to 11",
    description=__doc__ or "",
    paper=(
        "Figure 9 has the seconds of an epoch for GBZ 32 to 512, in one process and with LBZ 4 and 16. Figure 10 has "
        "the AUC of each finding: lower for larger batches, and one half throughout for GBZ 512 with LBZ 4. Figure 11 "
        "has the validation loss of that training, which hardly falls after the sixth epoch."
    ),
    reduced=Protocol(arms(REDUCED_BATCHES), seeds=3, settings={**PAPERS_RULE, "epochs": 4, "norm": "batch"}),
    full=Protocol(
        arms(BATCHES), seeds=3, settings={**PAPERS_RULE, "epochs": 10, "norm": "batch", "weights": ImageNet()}
    ),
    judge=judge,
    draw=draw,
)
