"""Results in words: the table on the terminal and the note of an MLflow run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from radflow.evaluation.auc import FindingAuc, mean_auc
from radflow.evaluation.evaluation import Evaluation
from radflow.evaluation.groups import Group
from radflow.evaluation.thresholds import YOUDEN
from radflow.plots.tables import escaped, markdown_table, terminal_table

RESEARCH_ONLY = "Research use only; not a medical device."
_ABSENT = "-"
_OF_PROBABILITIES = (
    "Finding", "Average precision", "Brier", "Calibration error", "Threshold", "Sensitivity", "Specificity", "PPV",
    "NPV",
)  # fmt: skip
_HEADINGS = ("Finding", "AUC", "95 % interval", "Positives", "Films")
_OF_CROPS = (
    "Images are crops. A lesion, or the normal tissue of a film, has the mean probability of its crops; so have all "
    "tumour crops of a film, and all of its normal tissue, where films are the units."
)
_OF_BREASTS = "A breast has the mean probability of its views, and a finding that one of them shows."

Groups = Mapping[Group, Mapping[str, FindingAuc]]
NO_GROUPS: Groups = MappingProxyType({})


@dataclass(frozen=True)
class RunFacts:
    """What a reader of a run's note wants to know about the training.

    Attributes
    ----------
    model : str
        Architecture and normalisation, as a reader would say it.
    dataset, dataset_digest : str
        Name and SHA-256 of the manifest.
    films : mapping of split to number of films
    evaluated_split : str
        The split that the AUCs come from.
    ranks, local_batch, micro_steps : int
        Their product is the global batch.
    optimizer : str
    learning_rate : float
        The scaled rate, at the end of the warm-up.
    epochs : int
        As many as were trained.
    images_per_second, seconds_per_epoch : float
        Training throughput of all ranks together.
    leakage : str
        How many evaluated patients were seen in training, where there are any or it is not known.
    """

    model: str
    dataset: str
    dataset_digest: str
    films: Mapping[str, int]
    evaluated_split: str
    ranks: int
    local_batch: int
    micro_steps: int
    optimizer: str
    learning_rate: float
    epochs: int
    images_per_second: float
    seconds_per_epoch: float
    leakage: str = ""

    @property
    def global_batch(self) -> int:
        """Samples of one optimiser step over all ranks."""
        return self.ranks * self.local_batch * self.micro_steps


def auc_table(
    results: Mapping[str, FindingAuc],
    title: str,
    mean_interval: tuple[float, float] | None = None,
    groups: Groups = NO_GROUPS,
) -> Table:
    """Lay out AUC, interval and class counts of each finding, and the mean, for the terminal.

    Parameters
    ----------
    results : from `auc_per_finding`
    title : str
    mean_interval : from `mean_auc_interval`, optional
    groups : from `auc_per_group`, optional
    """
    rows = [(name, *_cells(result)) for name, result in (*results.items(), *_group_rows(groups))]
    table = terminal_table(title, _HEADINGS, rows, align="lrrrr")
    table.columns[0].no_wrap = True
    table.add_section()
    table.add_row("Mean", _number(mean_auc(results)), _range(*(mean_interval or (math.nan, math.nan))), style="bold")
    return table


def probability_table(evaluation: Evaluation, limits: NDArray[np.float64] | None, title: str) -> Table:
    """Lay out for the terminal what probabilities are worth, and what Youden's thresholds come to.

    Parameters
    ----------
    evaluation : Evaluation
    limits : float [findings], optional
        The thresholds among the calibrated probabilities.
    title : str
    """
    points = evaluation.operating_points.get(YOUDEN, {})
    rows = []
    for index, (finding, measures) in enumerate(evaluation.measures.items()):
        before, after = evaluation.uncalibrated[finding].calibration_error, measures.calibration_error
        error = f"{_number(before.value)} to {_number(after.value)}" if after.is_known else _ABSENT
        point = points.get(finding)
        shares = [_number(share.value) for share in vars(point).values()] if point else [_ABSENT] * 4
        limit = _number(float(limits[index])) if limits is not None else _ABSENT
        rows.append(
            (finding, _number(measures.average_precision.value), _number(measures.brier.value), error, limit, *shares)
        )
    table = terminal_table(f"{title}: probabilities, and thresholds of Youden", _OF_PROBABILITIES, rows, "lrrrrrrrr")
    table.columns[0].no_wrap = True
    return table


def summary_markdown(
    facts: RunFacts,
    results: Mapping[str, FindingAuc],
    mean_interval: tuple[float, float] | None = None,
    groups: Groups = NO_GROUPS,
) -> str:
    """Write the note of a run: what was trained on what, how well it does, how fast it was; GitHub-flavoured markdown.

    Parameters
    ----------
    facts : RunFacts
    results : from `auc_per_finding`, of the films of `facts.evaluated_split`
    mean_interval : from `mean_auc_interval`, optional
    groups : from `auc_per_group`, optional
    """
    paragraphs = [
        f"**{escaped(facts.model)}** on **{escaped(facts.dataset)}**: " + _mean_in_words(facts, results, mean_interval),
        "\n".join(f"- {line}" for line in _training_lines(facts)),
        auc_markdown({**results, **dict(_group_rows(groups))}),
        *_remarks(facts, results),
        *([_OF_BREASTS if "breast" in groups else _OF_CROPS] if groups else []),
        f"*{RESEARCH_ONLY}*",
    ]
    return "\n\n".join(paragraphs) + "\n"


def evaluation_markdown(
    title: str, results: Mapping[str, FindingAuc], mean_interval: tuple[float, float], leakage: str = ""
) -> str:
    """Write the note of an evaluation: its AUCs, after a warning of patients who were seen in training.

    Parameters
    ----------
    title : what was evaluated on what
    results : from `auc_per_finding`
    mean_interval : from `mean_auc_interval`
    leakage : how many patients were seen in training, where there are any or it is not known
    """
    paragraphs = [
        f"**{escaped(title)}**: mean AUC **{_number(mean_auc(results))}** (95 % interval {_range(*mean_interval)}).",
        *([leakage_markdown(leakage)] if leakage else []),
        auc_markdown(results),
        f"*{RESEARCH_ONLY}*",
    ]
    return "\n\n".join(paragraphs) + "\n"


def _group_rows(groups: Groups) -> list[tuple[str, FindingAuc]]:
    return [
        (f"{finding}, per {group}", result) for group, results in groups.items() for finding, result in results.items()
    ]


def _mean_in_words(
    facts: RunFacts, results: Mapping[str, FindingAuc], mean_interval: tuple[float, float] | None
) -> str:
    split = escaped(facts.evaluated_split)
    mean = mean_auc(results)
    if math.isnan(mean):
        return f"no AUC on the {split} split, for no finding has both positive and negative films there."
    interval = f" (95 % interval {_range(*mean_interval)})" if mean_interval else ""
    counted = sum(not math.isnan(result.auc) for result in results.values())
    return f"mean AUC **{mean:.3f}**{interval} over {counted} of {len(results)} findings on the {split} split."


def _training_lines(facts: RunFacts) -> list[str]:
    films = ", ".join(f"{escaped(split)} {count:,}" for split, count in facts.films.items())
    return [
        f"Films: {films}; manifest SHA-256 `{facts.dataset_digest[:12]}`",
        f"Global batch: {facts.global_batch:,} = ranks {facts.ranks} x local batch {facts.local_batch} "
        f"x micro-steps {facts.micro_steps}",
        f"Optimiser: {escaped(facts.optimizer)}, learning rate {facts.learning_rate:.4g}, epochs {facts.epochs}",
        f"Throughput: {facts.images_per_second:,.1f} images/s, {facts.seconds_per_epoch:,.1f} s per epoch",
    ]


def auc_markdown(results: Mapping[str, FindingAuc]) -> str:
    """Lay out AUC, interval and class counts of each finding as a Markdown table."""
    rows = ((escaped(finding), *_cells(result)) for finding, result in results.items())
    return markdown_table(_HEADINGS, rows, align="lrcrr")


def _remarks(facts: RunFacts, results: Mapping[str, FindingAuc]) -> list[str]:
    """List what a reader could otherwise take wrongly, a paragraph each."""
    remarks = ["Intervals are taken between patients: the films of one patient are not independent."]
    if facts.leakage:
        remarks.insert(0, leakage_markdown(facts.leakage))
    if any(math.isnan(result.auc) for result in results.values()):
        remarks.append("A finding without an AUC has no positive or no negative film in this split.")
    training_films = facts.films.get("train", 0)
    if 0 < training_films < facts.global_batch:
        remarks.append(
            f"The training split has {training_films:,} films, fewer than the global batch of {facts.global_batch:,}: "
            "each epoch was one step on all of them."
        )
    return remarks


def leakage_markdown(leakage: str) -> str:
    """Warn of patients who were evaluated although they were, or may have been, seen in training."""
    return f"**Leakage: {escaped(leakage)}.** AUCs of patients who were seen in training say nothing of new ones."


def _cells(result: FindingAuc) -> tuple[str, str, str, str]:
    films = result.positives + result.negatives
    return _number(result.auc), _range(result.low, result.high), f"{result.positives:,}", f"{films:,}"


def _number(value: float) -> str:
    return _ABSENT if math.isnan(value) else f"{value:.3f}"


def _range(low: float, high: float) -> str:
    return _ABSENT if math.isnan(low) or math.isnan(high) else f"{low:.3f} to {high:.3f}"
