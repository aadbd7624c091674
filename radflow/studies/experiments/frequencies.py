"""Frequencies of the findings in ChestX-ray14 (section II, Table I).

The table is held against the labels of the dataset that is given: those of the release (112,120 films) decide it. The
paper prints Emphysema's count for Effusion, .05 % for Mass (5,746 of 112,120 are 5.12 %), and counts of an earlier
version of the label file. Phantom films have frequencies of their own and decide nothing.

    mlflow run . -e study -P name=frequencies -P scale=data -P data=FOLDER

takes seconds at every scale: nothing is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from radflow.plots.prevalence import prevalence_figure
from radflow.studies.experiment import Experiment, Protocol
from radflow.studies.outcome import Outcome
from radflow.studies.verdicts import Evidence, counted, untested

FILMS = 112_120
TABLE = {
    "Atelectasis": (11_535, 10.28),
    "Consolidation": (4_667, 4.16),
    "Infiltration": (19_871, 17.72),
    "Pneumothorax": (5_298, 4.72),
    "Edema": (2_303, 2.05),
    "Emphysema": (2_516, 2.24),
    "Fibrosis": (1_686, 1.50),
    "Effusion": (2_516, 2.24),
    "Pneumonia": (1_353, 1.20),
    "Pleural_Thickening": (3_385, 3.01),
    "Cardiomegaly": (2_772, 2.47),
    "Nodule": (6_323, 5.64),
    "Mass": (5_746, 0.05),
    "Hernia": (227, 0.20),
}
"""Images, and per cent of them, as Table I prints both."""
NO_FINDING = 60_412
CLOSE = 0.06
"""Share by which a count may differ between versions of the label file: that of Pneumonia does by 5.5 %."""


def judge(outcome: Outcome) -> Sequence[Evidence]:
    """Each statement of Table I."""
    films, counts = outcome.films.films, outcome.films.positives
    claims = [
        f"There are {FILMS:,} films.",
        f"{NO_FINDING:,} films show no finding.",
        *(f"{count:,} films show {finding.replace('_', ' ')}." for finding, (count, _) in TABLE.items()),
        "The percentages are those of the counts.",
    ]
    if films != FILMS or not set(TABLE) <= set(counts):
        return [untested(claim, f"the films given are {films:,}, not the release's {FILMS:,}") for claim in claims]
    found = [films, outcome.films.no_finding, *(counts[finding] for finding in TABLE)]
    printed = [FILMS, NO_FINDING, *(count for count, _ in TABLE.values())]
    wrong = [finding for finding, (count, share) in TABLE.items() if abs(100 * count / FILMS - share) > 0.02]
    return [
        *(
            counted(claim, abs(number - count) <= CLOSE * count, f"the label file has {number:,}")
            for claim, count, number in zip(claims, printed, found, strict=False)
        ),
        counted(claims[-1], not wrong, f"not of {', '.join(wrong)}" if wrong else "all are"),
    ]


def draw(outcome: Outcome) -> Mapping[str, Figure]:
    """Shares of the films given, beside those of Table I."""
    given = outcome.films
    known = [finding for finding in TABLE if finding in given.positives]
    shares = {
        given.name: {finding: given.positives[finding] / given.films for finding in known},
        "Table I": {finding: TABLE[finding][0] / FILMS for finding in known},
    }
    return {"frequencies": prevalence_figure(shares, "Films with each finding (as Table I)")} if known else {}


EXPERIMENT = Experiment(
    title="Frequencies of the findings",
    source="section II, Table I",
    description=__doc__ or "",
    paper="Table I has the number and the percentage of films with each of fourteen findings, and without any.",
    reduced=Protocol((), seeds=0),
    full=Protocol((), seeds=0),
    judge=judge,
    draw=draw,
    findings=tuple(TABLE),
)
