"""Whether what the paper claims was found again: tests of the claims, and verdicts that hold for all together.

A claim is reproduced where a test says so, and not reproduced where a test says the contrary: that there is no
difference as large as matters, or one the other way. Both are one-sided tests. Where neither is significant after
Holm's correction over the claims of a study, the scale is too small to tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

import numpy as np
from scipy import stats

from radflow.evaluation.auc import auc_per_finding, mean_auc
from radflow.evaluation.comparison import adjust_by_holm
from radflow.evaluation.predictions import Predictions
from radflow.evaluation.repeated import RepeatedComparison, compare_repeated
from radflow.studies.outcome import Outcome

SIGNIFICANT = 0.05
MATTERS = 0.01
"""Difference of mean AUCs that would make a reader choose another way of training."""


class Verdict(StrEnum):
    """What has become of a claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    NOT_TESTABLE = "not testable at this scale"


@dataclass(frozen=True)
class Evidence:
    """A claim with what was found."""

    claim: str
    numbers: str
    """In words."""
    p_for: float
    """One-sided p-value of the test whose significance bears the claim out; NaN where nothing could be tested."""
    p_against: float
    """That of the test whose significance contradicts it."""
    is_counted: bool = False
    """Whether counting decides the claim, and no chance is involved."""


@dataclass(frozen=True)
class Judged:
    """A claim and its verdict."""

    claim: str
    verdict: Verdict
    evidence: str
    p_value: float
    """Two-sided and adjusted for the number of claims; NaN where nothing was tested, or counting decides."""

    def to_json(self) -> dict[str, object]:
        """The claim as `claims.json` has it."""
        return {**asdict(self), "p_value": None if math.isnan(self.p_value) else self.p_value}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Judged:
        """What `to_json` gave."""
        p_value = math.nan if content["p_value"] is None else float(content["p_value"])
        return cls(content["claim"], Verdict(content["verdict"]), content["evidence"], p_value)


def verdicts(tested: Sequence[Evidence]) -> list[Judged]:
    """The verdict on each claim, with the chance of any wrong one among them kept at 5 %."""
    p_values = [min(1.0, 2 * min(each.p_for, each.p_against)) for each in tested if _has_p(each)]
    adjusted = iter(adjust_by_holm(p_values))
    return [_judge(each, next(adjusted) if _has_p(each) else math.nan) for each in tested]


def _has_p(tested: Evidence) -> bool:
    return not (tested.is_counted or math.isnan(tested.p_for))


def _judge(tested: Evidence, p_value: float) -> Judged:
    if not (tested.is_counted or p_value < SIGNIFICANT):
        verdict = Verdict.NOT_TESTABLE
    else:
        verdict = Verdict.REPRODUCED if tested.p_for <= tested.p_against else Verdict.NOT_REPRODUCED
    return Judged(tested.claim, verdict, tested.numbers, p_value)


def untested(claim: str, reason: str) -> Evidence:
    """A claim that this scale, these films or this machine cannot decide."""
    return Evidence(claim, reason, math.nan, math.nan)


def counted(claim: str, holds: bool, evidence: str) -> Evidence:
    """A claim that counting decides, without chance."""
    return Evidence(claim, evidence, 0.0 if holds else 1.0, 1.0 if holds else 0.0, is_counted=True)


def more_accurate(claim: str, outcome: Outcome, better: str, worse: str) -> Evidence:
    """One arm has a higher mean test AUC than another: more than none, against less than matters."""
    compared, evidence = _compare(outcome, better, worse)
    if compared is None:
        return untested(claim, evidence)
    return Evidence(claim, evidence, compared.p_value_below(0.0), 1 - compared.p_value_below(MATTERS))


def as_accurate(claim: str, outcome: Outcome, one: str, other: str, margin: float = MATTERS) -> Evidence:
    """Two arms have the same mean test AUC but for `margin`: the difference is within it, against outside.

    The first is two one-sided tests (Schuirmann 1987, doi:10.1007/BF01068419).
    """
    compared, evidence = _compare(outcome, one, other)
    if compared is None:
        return untested(claim, evidence)
    above, below = compared.p_value_below(-margin), 1 - compared.p_value_below(margin)
    outside = min(compared.p_value_below(margin), 1 - compared.p_value_below(-margin))
    return Evidence(claim, evidence, max(above, below), min(1.0, 2 * outside))


def unable(claim: str, outcome: Outcome, arm: str, useless: float = 0.6) -> Evidence:
    """The models of an arm have hardly learned: their mean test AUC, of which .5 is a coin's, is below `useless`."""
    aucs = outcome.test_aucs(arm)
    if len(aucs) < 2:
        return untested(claim, f"{arm}: {len(aucs)} models; two or more are needed")
    below = stats.ttest_1samp(aucs, useless, alternative="less").pvalue
    return Evidence(claim, f"{arm}: mean test AUC {in_words(aucs)}", float(below), 1 - float(below))


def trend(claim: str, outcome: Outcome, arms: Sequence[str], values: dict[str, list[float]], rises: bool) -> Evidence:
    """A number rises, or falls, from arm to arm, with the seeds as repetitions (Page 1963, doi:10.2307/2282965)."""
    complete = min((len(values[arm]) for arm in arms if arm in outcome.arms), default=0)
    known = [arm for arm in arms if arm in outcome.arms]
    evidence = ", ".join(f"{arm} {in_words(values[arm])}" for arm in known)
    if len(known) < 3 or complete < 2:
        return untested(claim, f"{evidence}; a trend needs three arms and two seeds")
    table = np.array([values[arm][:complete] for arm in known]).T
    ranks = np.arange(1, len(known) + 1)
    up, down = (stats.page_trend_test(table, predicted_ranks=order).pvalue for order in (ranks, ranks[::-1]))
    return Evidence(claim, evidence, *((up, down) if rises else (down, up)))


def times(
    claim: str,
    quantity: str,
    values: Mapping[str, Sequence[float]],
    larger: str,
    smaller: str,
    at_least: float = 1.0,
) -> Evidence:
    """A positive quantity is at least so many times another: Welch's test of the logarithms, seeds as repetitions."""
    one, other = values.get(larger, ()), values.get(smaller, ())
    if min(len(one), len(other)) < 2:
        return untested(claim, f"{len(one)} and {len(other)} repetitions; two or more are needed")
    more = stats.ttest_ind(np.log(one), np.log(other) + math.log(at_least), equal_var=False, alternative="greater")
    ratio = float(np.exp(np.mean(np.log(one)) - np.mean(np.log(other))))
    evidence = f"{quantity} {in_words(one)} ({larger}) and {in_words(other)} ({smaller}): {ratio:.2f} times"
    return Evidence(claim, evidence, float(more.pvalue), 1 - float(more.pvalue))


def more_spread(claim: str, quantity: str, values: Mapping[str, Sequence[float]], wide: str, narrow: str) -> Evidence:
    """Repetitions differ more in one arm than in another: the F test of the variances of the logarithms."""
    one, other = values.get(wide, ()), values.get(narrow, ())
    if min(len(one), len(other)) < 3:
        return untested(claim, f"{len(one)} and {len(other)} repetitions; three or more are needed")
    first, second = (float(np.var(np.log(each), ddof=1)) for each in (one, other))
    more = float(stats.f.sf(first / second, len(one) - 1, len(other) - 1)) if second else float(first == 0)
    told = " and ".join(
        f"{100 * math.sqrt(variance):.1f} % ({arm})" for arm, variance in ((wide, first), (narrow, second))
    )
    return Evidence(claim, f"standard deviations of {quantity}: {told}", more, 1 - more)


def better_predictions(
    claim: str, better: Sequence[Predictions], worse: Sequence[Predictions], first: str, second: str
) -> Evidence:
    """As `more_accurate`, of predictions that are not those of arms, under the names `first` and `second`."""
    compared = compare_repeated(better, worse)
    evidence = _in_words(compared, {first: better, second: worse})
    return Evidence(claim, evidence, compared.p_value_below(0.0), 1 - compared.p_value_below(MATTERS))


def in_words(values: Sequence[float]) -> str:
    """The mean of repetitions, and how far they are apart."""
    mean, spread = float(np.mean(values)), (max(values) - min(values)) / 2
    return _rounded(mean, 3) if len(values) == 1 else f"{_rounded(mean, 3)} ± {_rounded(spread, 1)}"


def _rounded(value: float, digits: int) -> str:
    """A number to so many digits, and never as a power of ten."""
    return f"{Decimal(f'{value:.{digits}g}'):,f}"


def _compare(outcome: Outcome, first: str, second: str) -> tuple[RepeatedComparison | None, str]:
    """The comparison of two arms, or why there is none; and the numbers in words."""
    pairs = outcome.paired(first, second)
    if not pairs[0]:
        return None, f"no seed has a model of both {first} and {second}"
    one, other = ([result.predictions for result in half if result.predictions] for half in pairs)
    compared = compare_repeated(one, other)
    return compared, _in_words(compared, {first: one, second: other})


def _in_words(compared: RepeatedComparison, models: Mapping[str, Sequence[Predictions]]) -> str:
    means = [
        f"{np.mean([mean_auc(auc_per_finding(model)) for model in each]):.3f} ({name})" for name, each in models.items()
    ]
    return (
        f"mean test AUC {' and '.join(means)}, a difference of {compared.difference:+.3f} "
        f"({compared.low:+.3f} to {compared.high:+.3f})"
    )
