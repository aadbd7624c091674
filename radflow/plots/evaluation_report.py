"""An evaluation as one HTML page that needs no network: every number with its interval, figures and provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from radflow.evaluation.auc import FindingAuc
from radflow.evaluation.estimates import Estimate
from radflow.evaluation.evaluation import Evaluation
from radflow.evaluation.literature import PUBLISHED_MEANS, remarks_on
from radflow.evaluation.thresholds import RULES_IN_WORDS
from radflow.plots.calibration import reliability_figure
from radflow.plots.page import Section, page_html, picture_of
from radflow.plots.roc import ANCHOR_CAPTION, auc_figure, roc_figure
from radflow.plots.style import in_words
from radflow.plots.subgroups import SUBGROUP_HEADINGS, subgroup_figure, subgroup_rows

_OF_SEEN = "AUCs of patients who were seen in training say nothing of new ones."


def evaluation_figures(evaluation: Evaluation, title: str, has_literature: bool) -> dict[str, Figure]:
    """The figures of an evaluation by their names; published AUCs stand in them where they are of such films."""
    figures = {
        "auc": auc_figure(evaluation.aucs, title, anchors=has_literature),
        "roc": roc_figure(evaluation.predictions, title),
        "reliability": reliability_figure(evaluation, title),
    }
    if evaluation.subgroups:
        figures["subgroups"] = subgroup_figure(evaluation.subgroups, title)
    return figures


def evaluation_html(
    evaluation: Evaluation,
    figures: Mapping[str, Figure],
    title: str,
    facts: Mapping[str, str],
    warning: str = "",
    has_literature: bool = False,
    extra: Sequence[Section] = (),
) -> str:
    """Write the page.

    Parameters
    ----------
    evaluation : Evaluation
    figures : from `evaluation_figures`
    title : what was evaluated on what
    facts : what a reader must know of model, films and software, by name
    warning : how many patients were seen in training, where there are any or it is not known
    has_literature : whether the films are those of the published results, which then stand beside
    extra : sections that follow
    """
    sections = [
        _discrimination(evaluation, [figures["auc"], figures["roc"]]),
        *([_literature(evaluation)] if has_literature else []),
        _probabilities(evaluation, figures["reliability"]),
        *_thresholds(evaluation),
        *([_subgroups(evaluation, figures["subgroups"])] if evaluation.subgroups else []),
        *extra,
    ]
    return page_html(title, facts, sections, f"{warning}. {_OF_SEEN}" if warning else "")


def _discrimination(evaluation: Evaluation, figures: Sequence[Figure]) -> Section:
    per_group = [(f"{finding}, per {group}", result) for group, results in evaluation.groups.items()
                 for finding, result in results.items()]  # fmt: skip
    rows = [(in_words(name), *_auc_cells(result)) for name, result in [*evaluation.aucs.items(), *per_group]]
    rows.append(("Mean", str(evaluation.mean_auc), "", f"{len(evaluation.predictions):,}"))
    return Section(
        "How well findings are told apart",
        "Area under the ROC curve: the chance that a film with the finding scores above one without it.",
        ("Finding", "AUC", "Positive films", "Films"),
        rows,
        [picture_of(figure) for figure in figures],
    )


def _literature(evaluation: Evaluation) -> Section:
    rows = [("this evaluation", "its own films, see above", str(evaluation.mean_auc))]
    rows += [(each.source, each.split, each.auc) for each in PUBLISHED_MEANS]
    return Section(
        "Beside the literature",
        f"Mean AUC over the fourteen findings of ChestX-ray14. {ANCHOR_CAPTION}",
        ("Source", "Split", "Mean AUC"),
        rows,
        remarks=remarks_on(evaluation.aucs),
    )


def _probabilities(evaluation: Evaluation, figure: Figure) -> Section:
    rows = [
        (in_words(finding), *map(str, (found.average_precision, found.brier, before.calibration_error,
                                      found.calibration_error)))
        for (finding, found), before in zip(evaluation.measures.items(), evaluation.uncalibrated.values(), strict=True)
    ]  # fmt: skip
    return Section(
        "Whether probabilities come true",
        "Calibrated probabilities, as predict and the served model give them. The calibration error is the mean "
        "difference of probability and share of films with the finding in ten groups of equal size.",
        ("Finding", "Average precision", "Brier score", "Calibration error before", "after calibration"),
        rows,
        [picture_of(figure)],
    )


def _thresholds(evaluation: Evaluation) -> list[Section]:
    return [
        Section(
            f"Thresholds: {RULES_IN_WORDS.get(rule, rule)}",
            "Chosen on validation films, and counted on these.",
            ("Finding", "Sensitivity", "Specificity", "PPV", "NPV"),
            [
                (in_words(finding), *(str(share) for share in (vars(point).values() if point else ["-"] * 4)))
                for finding, point in points.items()
            ],
        )
        for rule, points in evaluation.operating_points.items()
    ]


def _subgroups(evaluation: Evaluation, figure: Figure) -> Section:
    return Section(
        "Subgroups",
        "Means over the findings with at least ten films of each class in the subgroup and in the rest. The last "
        "column is mean probability minus share of films with the finding.",
        SUBGROUP_HEADINGS,
        subgroup_rows(evaluation.subgroups),
        [picture_of(figure)],
    )


def _auc_cells(result: FindingAuc) -> tuple[str, str, str]:
    area = str(Estimate(result.auc, result.low, result.high))
    return area, f"{result.positives:,}", f"{result.positives + result.negatives:,}"
