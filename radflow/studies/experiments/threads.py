"""Threads of one process: time, its spread over five runs, and accuracy (section III-A2, Figures 5 to 8).

The paper varies OMP_NUM_THREADS and binds threads to cores. It claims that more threads shorten an epoch up to 32, that
the number of threads does not change the AUC, and that runs on all cores vary more than those on a few. Here a process
that `train` starts may move between cores, and one that `distributed` starts is bound to as many as it has threads.

    mlflow run . -e study -P name=threads

On two cores the sample takes about 40 minutes (40 trainings of 2 epochs, one at a time; those of more threads than
there are cores are left out). The full protocol is five runs of 10 epochs for each of 1 to 40 threads on ChestX-ray14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from radflow.plots.arms import Panel, boxes_figure, panels_figure
from radflow.studies.experiment import Arm, Experiment, ImageNet, Protocol
from radflow.studies.experiments.batch_size import PAPERS_RULE
from radflow.studies.figures import auc_by_finding_figure
from radflow.studies.outcome import SECONDS, Outcome
from radflow.studies.verdicts import Evidence, as_accurate, more_spread, times, untested

THREADS = (1, 2, 4, 8, 16, 20, 32, 40)
BATCHES = (16, 64)
FULL_BATCHES = (8, 16, 32, 64, 128, 256)


def arms(batches: Sequence[int]) -> tuple[Arm, ...]:
    """Each number of threads with each batch, free and bound."""
    return tuple(
        arm
        for batch in batches
        for threads in THREADS
        for arm in (
            Arm(_name(threads, batch), {"bz": batch, "threads": threads}, "train"),
            Arm(
                _name(threads, batch, bound=True),
                {"gbz": batch, "lbz": batch, "threads": threads, "np": 1, "hosts": "localhost:1"},
            ),
        )
    )


def _name(threads: int, batch: int, bound: bool = False) -> str:
    return f"{threads} {'thread' if threads == 1 else 'threads'}, BZ {batch}{', bound' if bound else ''}"


def judge(outcome: Outcome) -> Sequence[Evidence]:
    """The claims of section III-A2."""
    claims = (
        "More threads shorten an epoch.",
        "The number of threads does not change the AUC.",
        "Runs on all cores vary more than those on few.",
        "32 threads suit most batches, of 40 cores.",
    )
    known = [threads for threads in THREADS if _name(threads, 64) in outcome.arms]
    if len(known) < 2:
        return [untested(claim, "one number of threads is all that this machine has") for claim in claims]
    few, most = (_name(threads, 64) for threads in (known[0], known[-1]))
    seconds = {arm: outcome.median(arm, SECONDS) for arm in outcome.arms}
    whole = untested(claims[3], f"no machine of 40 cores; here {known[-1]} threads at most")
    return [
        times(claims[0], "seconds an epoch", seconds, few, most),
        as_accurate(claims[1], outcome, few, most),
        more_spread(claims[2], "the seconds an epoch", seconds, most, few),
        whole if 40 not in known else times(claims[3], "seconds an epoch", seconds, most, _name(32, 64)),
    ]


def draw(outcome: Outcome) -> Mapping[str, Figure]:
    """As Figures 5 to 8."""
    seconds = {arm: outcome.median(arm, SECONDS) for arm in outcome.arms}
    by_batch = {
        f"BZ {batch}": {_short(arm): values for arm, values in seconds.items() if f"BZ {batch}" in arm.split(", ")}
        for batch in FULL_BATCHES
    }
    free = [arm for arm in outcome.arms if "BZ 64" in arm and "bound" not in arm]
    return {
        "seconds": panels_figure(
            [Panel("Seconds an epoch", seconds)], "Time of an epoch by threads and batch size (as Figures 5 and 6)"
        ),
        "auc": auc_by_finding_figure(outcome, "AUC by finding for numbers of threads, BZ 64 (as Figure 7)", free),
        "spread": boxes_figure(
            {batch: arms for batch, arms in by_batch.items() if arms},
            "Seconds an epoch",
            "Spread of five runs (as Figure 8)",
        ),
    }


def _short(arm: str) -> str:
    threads, _, *bound = arm.split(", ")
    return ", ".join([threads, *bound])


EXPERIMENT = Experiment(
    title="Threads of one process",
    source="section III-A2, Figures 5 to 8",
    description=__doc__ or "",
    paper=(
        "Figures 5 and 6 have the seconds of an epoch for numbers of threads and batch sizes: least with 32 threads "
        "for most batches. Figure 7 has the AUC of each finding for numbers of threads, which overlap. Figure 8 has "
        "box plots of five runs with batch size 16: little spread, but for all 40 threads."
    ),
    reduced=Protocol(arms(BATCHES), seeds=5, settings={**PAPERS_RULE, "epochs": 2}),
    full=Protocol(arms(FULL_BATCHES), seeds=5, settings={**PAPERS_RULE, "epochs": 10, "weights": ImageNet()}),
    judge=judge,
    draw=draw,
    is_timed=True,
)
