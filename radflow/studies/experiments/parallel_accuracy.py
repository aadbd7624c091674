"""DenseNet-121 in one process with BZ 8 against distributed training at GBZ 4,096 (section III-C, Figure 13).

The paper claims that distributed DenseNet-121, even with AdaDelta, stays below the single process in the AUC of each
finding. Beyond it, the rule behind `auto` is held against both.

    mlflow run . -e study -P name=parallel-accuracy

On two cores the sample takes 14 minutes (9 trainings of 6 epochs, workers=2; GBZ 180 stands for 4,096, with 11 steps
an epoch). The full protocol is 10 epochs on ChestX-ray14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from radflow.plots.arms import Panel, panels_figure
from radflow.studies.experiment import Arm, Experiment, ImageNet, Protocol
from radflow.studies.experiments.batch_size import PAPERS_RULE
from radflow.studies.figures import auc_by_finding_figure
from radflow.studies.outcome import Outcome
from radflow.studies.verdicts import Evidence, as_accurate, counted, more_accurate, untested

SINGLE, PARALLEL, RULE = "one process, BZ 8", "distributed, AdaDelta", "distributed, auto rule"


def arms(global_batch: int) -> tuple[Arm, ...]:
    """The yardstick, the paper's distributed training, and ours."""
    adadelta = {"optimizer": "adadelta", "base_lr": 1.0, "lr_scaling": "none"}
    return (
        Arm(SINGLE, {"bz": 8, **PAPERS_RULE}, "train"),
        Arm(PARALLEL, {"gbz": global_batch, **adadelta}),
        Arm(RULE, {"gbz": global_batch}),
    )


def judge(outcome: Outcome) -> Sequence[Evidence]:
    """The claim of Figure 13, and what the rule makes of it."""
    return [
        more_accurate(
            "The single process is more accurate than AdaDelta's distributed training.", outcome, SINGLE, PARALLEL
        ),
        _each_finding(outcome),
        more_accurate("Beyond the paper: the auto rule is more accurate than AdaDelta.", outcome, RULE, PARALLEL),
        as_accurate(
            "Beyond the paper: the auto rule is within .02 of the single process.", outcome, RULE, SINGLE, 0.02
        ),
    ]


def _each_finding(outcome: Outcome) -> Evidence:
    claim = "It is so for every finding."
    if not {SINGLE, PARALLEL} <= set(outcome.arms):
        return untested(claim, "one of the two has no model")
    single, parallel = (outcome.finding_aucs(arm) for arm in (SINGLE, PARALLEL))
    better = [finding for finding in single if parallel[finding].auc >= single[finding].auc]
    return counted(claim, not better, f"not for {', '.join(better)}" if better else f"so for all {len(single)}")


def draw(outcome: Outcome) -> Mapping[str, Figure]:
    """As Figure 13."""
    return {
        "auc_by_finding": auc_by_finding_figure(outcome, "AUC by finding, one process and distributed (as Figure 13)"),
        "auc": panels_figure(
            [Panel("Mean test AUC", {arm: outcome.test_aucs(arm) for arm in outcome.arms})], "Accuracy in the mean"
        ),
    }


EXPERIMENT = Experiment(
    title="Distributed DenseNet-121 against one process",
    source="section III-C, Figure 13",
    description=__doc__ or "",
    paper=(
        "Figure 13 has the AUC of each finding for DenseNet-121 with BZ 8 and with GBZ 4,096: "
        "the latter is lower throughout."
    ),
    reduced=Protocol(arms(180), seeds=3, settings={"epochs": 6}),
    full=Protocol(arms(4096), seeds=3, settings={"epochs": 10, "weights": ImageNet()}),
    judge=judge,
    draw=draw,
)
