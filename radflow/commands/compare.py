"""`python -m radflow compare`: several runs side by side, with paired tests of their AUCs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from radflow.errors import UserError
from radflow.evaluation.auc import FindingAuc, auc_per_finding, mean_auc, mean_auc_interval
from radflow.evaluation.comparison import PairedComparison, adjust_by_holm, compare_paired
from radflow.evaluation.estimates import Estimate
from radflow.evaluation.predictions import Predictions
from radflow.files import atomic_file
from radflow.plots.page import Section, page_html, picture_of
from radflow.plots.runs import auc_by_run_figure, loss_by_epoch_figure
from radflow.plots.style import in_words
from radflow.plots.tables import terminal_table
from radflow.terminal import print_table, say
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.finished_runs import FinishedRun, finished_run, metric_by_step
from radflow.training.assessment import predictions_of_run

TEST_HEADINGS = ("Runs", "Difference in mean AUC", "p", "p after Holm")
_OF_TESTS = (
    "Patients are drawn again with all their films, and both runs are judged on each draw. Holm's correction keeps the "
    "chance of any false difference among all pairs at 5 %."
)
SPEED = "throughput/images_per_second"


@dataclass(frozen=True)
class Tested:
    """Two of the runs, and how their mean AUCs differ on the same films."""

    first: str
    second: str
    comparison: PairedComparison
    adjusted_p: float


def compare(run_ids: Sequence[str], out: Path) -> list[Tested]:
    """Print AUCs by finding, speed, and paired tests of all pairs of runs; write them with figures into a page.

    The tests draw patients again; Holm's correction keeps the chance of any false difference at 5 %.

    Raises
    ------
    UserError
        Fewer than two runs, one twice, one that has not finished or has no predictions, or runs that were tested on
        different films.
    """
    if len(run_ids) < 2 or len(set(run_ids)) < len(run_ids):
        raise UserError(f"compare takes at least two different runs; given {', '.join(run_ids) or 'none'}")
    prepare_tracking()
    runs = [finished_run(run_id) for run_id in run_ids]
    predictions = {run.label: predictions_of_run(run.run_id) for run in runs}
    tested = _test_pairs(predictions)
    aucs = {label: auc_per_finding(each) for label, each in predictions.items()}
    findings, means = list(next(iter(aucs.values()))), {label: _mean(each) for label, each in predictions.items()}
    rows = [(in_words(finding), *(_area(aucs[label][finding]) for label in aucs)) for finding in findings]
    rows += [("Mean", *map(str, means.values())), ("Images/s", *(_speed(run) for run in runs))]
    headings = ("", *aucs)
    pairs = [_row(each) for each in tested]
    print_table(terminal_table("AUC (95 % interval between patients)", headings, rows, "l" + "r" * len(aucs)))
    print_table(terminal_table("Paired tests between patients", TEST_HEADINGS, pairs, "lrrr"))
    auc_figure = auc_by_run_figure(aucs, "AUC by finding")
    losses = {run.label: metric_by_step(run.run_id, "val/loss") for run in runs}
    loss_figure = loss_by_epoch_figure(losses, "Validation loss by epoch")
    sections = [
        Section("AUC by finding", "", headings, rows, [picture_of(auc_figure)]),
        Section("Paired tests", _OF_TESTS, TEST_HEADINGS, pairs),
        Section("Loss by epoch", pictures=[picture_of(loss_figure)]),
    ]
    facts = {run.label: f"run {run.run_id}, {run.tags.get('radflow.data_name', 'films')}" for run in runs}
    with atomic_file(out) as temporary:
        temporary.write_text(page_html("Runs compared", facts, sections), encoding="utf-8")
    say(f"page with figures: {out}")
    return tested


def _test_pairs(predictions: dict[str, Predictions]) -> list[Tested]:
    pairs = list(itertools.combinations(predictions, 2))
    comparisons = []
    for first, second in pairs:
        try:
            comparisons.append(compare_paired(predictions[first], predictions[second]))
        except UserError as error:
            raise UserError(f"{first} and {second}: {error}") from error
    adjusted = adjust_by_holm([each.p_value for each in comparisons])
    return [
        Tested(*pair, comparison, p_value)
        for pair, comparison, p_value in zip(pairs, comparisons, adjusted, strict=True)
    ]


def _mean(predictions: Predictions) -> Estimate:
    return Estimate(mean_auc(auc_per_finding(predictions)), *mean_auc_interval(predictions))


def _area(result: FindingAuc) -> str:
    return str(Estimate(result.auc, result.low, result.high))


def _speed(run: FinishedRun) -> str:
    return f"{run.metrics[SPEED]:,.1f}" if SPEED in run.metrics else "-"


def _row(tested: Tested) -> tuple[str, ...]:
    comparison = tested.comparison
    difference = f"{comparison.difference:+.4f} ({comparison.low:+.4f} to {comparison.high:+.4f})"
    return f"{tested.first} - {tested.second}", difference, f"{comparison.p_value:.4f}", f"{tested.adjusted_p:.4f}"
