"""What a candidate was asked by the policy, and what was seen."""

from __future__ import annotations

from dataclasses import dataclass

from radflow.errors import UserError
from radflow.evaluation.auc import auc_per_finding, mean_auc, mean_auc_interval
from radflow.evaluation.comparison import PairedComparison, compare_paired
from radflow.evaluation.subgroups import evaluate_subgroups, known_columns, largest_deficit
from radflow.inference.loaded_model import load_classifier
from radflow.promotion.contenders import Contender
from radflow.promotion.policy import BETTER, Rules
from radflow.training.leakage import LEAKAGE_TAG, UNKNOWN_TAG

SAME_DATA, UNSEEN_PATIENTS, MINIMUM_AUC = "same data", "unseen patients", "minimum AUC"
AGAINST_CHAMPION, GOLDEN_IMAGE, LARGEST_GAP = "against champion", "golden image", "largest gap"


@dataclass(frozen=True)
class Check:
    """A rule: what was asked, what was seen, and whether that passed; None where it was not tried."""

    rule: str
    asked: str
    seen: str
    passed: bool | None

    @property
    def result(self) -> str:
        """Result as a table shows it."""
        return {True: "yes", False: "no", None: "-"}[self.passed]


@dataclass(frozen=True)
class Judgement:
    """All rules of the policy, judged."""

    checks: tuple[Check, ...]

    @property
    def failed(self) -> list[Check]:
        """Rules that the candidate does not meet."""
        return [check for check in self.checks if check.passed is False]

    @property
    def is_passed(self) -> bool:
        """Whether the candidate may become champion."""
        return not self.failed

    @property
    def is_challenger(self) -> bool:
        """Whether it meets all but being better than the champion."""
        return [check.rule for check in self.failed] == [AGAINST_CHAMPION]

    @property
    def reasons(self) -> str:
        """Reasons in a sentence: the rules that failed, or all that passed."""
        told = self.failed or [check for check in self.checks if check.passed]
        return "; ".join(f"{check.rule}: {check.seen} (asked: {check.asked})" for check in told)


def judge(rules: Rules, candidate: Contender, champion: Contender | None, champion_name: str) -> Judgement:
    """Judge every rule; the model is fetched and loaded only if it could still become champion or challenger."""
    checks = [_minimum_auc(rules, candidate), _against_champion(rules, candidate, champion, champion_name)]
    if rules.largest_gap < 1:
        checks.append(_largest_gap(rules, candidate))
    if rules.unseen_patients:
        checks.insert(0, _unseen_patients(candidate))
    if champion and rules.same_data:
        checks.insert(0, _same_data(candidate, champion, champion_name))
    if rules.golden_image:
        could_pass = all(check.passed is not False for check in checks if check.rule != AGAINST_CHAMPION)
        checks.append(_golden_image(candidate, could_pass))
    return Judgement(tuple(checks))


def _same_data(candidate: Contender, champion: Contender, champion_name: str) -> Check:
    asked = f"dataset and split of {champion_name}, {champion.digest[:12]}"
    return Check(SAME_DATA, asked, candidate.digest[:12] or "none named", candidate.digest == champion.digest)


def _unseen_patients(candidate: Contender) -> Check:
    asked = "no test patient seen in training, by the model or one that it started from"
    tags, seen = candidate.run.data.tags, candidate.seen_patients
    if seen is None:
        return Check(UNSEEN_PATIENTS, asked, "not known: the run is of an earlier radflow", passed=None)
    passed = None if UNKNOWN_TAG in tags and not seen else not seen
    return Check(UNSEEN_PATIENTS, asked, tags.get(LEAKAGE_TAG, f"{seen} seen"), passed)


def _minimum_auc(rules: Rules, candidate: Contender) -> Check:
    asked = f"mean test AUC of at least {rules.minimum_auc:.3f}"
    if isinstance(candidate.predictions, UserError):
        return Check(MINIMUM_AUC, asked, str(candidate.predictions), passed=False)
    auc = mean_auc(auc_per_finding(candidate.predictions))
    low, high = mean_auc_interval(candidate.predictions)
    return Check(MINIMUM_AUC, asked, f"{auc:.3f} ({low:.3f} to {high:.3f})", auc >= rules.minimum_auc)


def _largest_gap(rules: Rules, candidate: Contender) -> Check:
    asked = f"no subgroup's mean AUC lower than that of the others by more than {rules.largest_gap:g}, beyond chance"
    if isinstance(candidate.predictions, UserError):
        return Check(LARGEST_GAP, asked, "no test predictions", passed=None)
    predictions = candidate.predictions
    subgroups = evaluate_subgroups(predictions, predictions, None, known_columns(predictions))
    worst = largest_deficit(subgroups)
    if worst is None:
        seen = f"none of {len(subgroups)} subgroups is lower beyond chance" if subgroups else "no subgroups are known"
        return Check(LARGEST_GAP, asked, seen, passed=True)
    gap = worst.auc_difference
    seen = f"{worst.column} {worst.value}: {gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"
    return Check(LARGEST_GAP, asked, seen, -gap.value <= rules.largest_gap)


def _against_champion(rules: Rules, candidate: Contender, champion: Contender | None, champion_name: str) -> Check:
    if champion is None:
        return Check(AGAINST_CHAMPION, "nothing of the first of its family", "no champion yet", passed=True)
    is_better = rules.against_champion == BETTER
    asked = (
        f"{'better' if is_better else f'not worse by {rules.margin:g}'} than {champion_name} on the same films, "
        f"at {100 * rules.confidence:g} % confidence"
    )
    try:
        comparison = compare_paired(candidate.tested(), champion.tested(), confidence=rules.confidence)
    except UserError as reason:
        return Check(AGAINST_CHAMPION, asked, str(reason), passed=False)
    # A NaN is not above.
    return Check(AGAINST_CHAMPION, asked, _in_words(comparison), comparison.low > -rules.margin)


def _in_words(comparison: PairedComparison) -> str:
    """The difference with its interval, p-value and the number of films."""
    interval = f"{comparison.low:+.3f} to {comparison.high:+.3f}"
    films = f"{comparison.films:,} films of {comparison.patients:,} patients"
    return f"{comparison.difference:+.3f} ({interval}), p = {comparison.p_value:.3f}, {films}"


def _golden_image(candidate: Contender, could_pass: bool) -> Check:
    asked = "its probabilities reproduced after reload"
    if not could_pass:
        return Check(GOLDEN_IMAGE, asked, "not tried, refused already", passed=None)
    try:
        load_classifier(candidate.model_uri)
    except UserError as reason:
        return Check(GOLDEN_IMAGE, asked, str(reason), passed=False)
    return Check(GOLDEN_IMAGE, asked, "reproduced", passed=True)
