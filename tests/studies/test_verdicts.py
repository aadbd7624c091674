"""Verdicts on claims: right where the truth is known, and rarely wrong where there is nothing to find."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from study_cells import FILMS, diverged, outcome_of

from radflow.studies.cells import Cell
from radflow.studies.experiment import Arm, Protocol
from radflow.studies.outcome import SECONDS, Outcome
from radflow.studies.verdicts import (
    Evidence,
    Judged,
    Verdict,
    as_accurate,
    counted,
    in_words,
    more_accurate,
    more_spread,
    times,
    trend,
    unable,
    untested,
    verdicts,
)

ARMS = tuple(Arm(f"BZ {2**power}") for power in range(3, 7))
PROTOCOL = Protocol(ARMS, seeds=3)
NAMES = [arm.name for arm in ARMS]


def verdict(tested: Evidence) -> Verdict:
    return verdicts([tested])[0].verdict


@pytest.fixture(scope="module")
def falling() -> Outcome:
    """Four arms, each of which sees less than the one before."""
    return outcome_of(PROTOCOL, {"BZ 8": 2.0, "BZ 16": 1.4, "BZ 32": 0.8, "BZ 64": 0.0})


@pytest.fixture(scope="module")
def alike() -> Outcome:
    return outcome_of(PROTOCOL, {})


def test_a_difference_that_is_there_is_reproduced_and_its_contrary_is_not(falling: Outcome) -> None:
    assert verdict(more_accurate("", falling, "BZ 8", "BZ 64")) is Verdict.REPRODUCED
    assert verdict(more_accurate("", falling, "BZ 64", "BZ 8")) is Verdict.NOT_REPRODUCED
    assert verdict(as_accurate("", falling, "BZ 8", "BZ 64")) is Verdict.NOT_REPRODUCED


def test_arms_that_are_alike_are_as_accurate_and_neither_is_more(alike: Outcome) -> None:
    assert verdict(as_accurate("", alike, "BZ 8", "BZ 16", margin=0.05)) is Verdict.REPRODUCED
    assert verdict(more_accurate("", alike, "BZ 8", "BZ 16")) is not Verdict.REPRODUCED


def test_what_few_films_cannot_tell_is_not_testable() -> None:
    few = outcome_of(Protocol(ARMS[:2], seeds=2), {"BZ 8": 1.02})
    assert verdict(as_accurate("", few, "BZ 8", "BZ 16", margin=0.001)) is Verdict.NOT_TESTABLE


def test_evidence_has_the_difference_with_its_interval(falling: Outcome) -> None:
    evidence = more_accurate("", falling, "BZ 8", "BZ 64").numbers
    difference = np.mean(falling.test_aucs("BZ 8")) - np.mean(falling.test_aucs("BZ 64"))
    assert f"{difference:+.3f} (" in evidence
    assert "BZ 8" in evidence
    assert "BZ 64" in evidence


def test_models_that_guess_are_unable_and_others_are_not(falling: Outcome) -> None:
    assert verdict(unable("", falling, "BZ 64")) is Verdict.REPRODUCED
    assert verdict(unable("", falling, "BZ 8")) is Verdict.NOT_REPRODUCED


def test_trends_are_pages_test(falling: Outcome) -> None:
    aucs = {name: falling.test_aucs(name) for name in NAMES}
    tested = trend("", falling, NAMES, aucs, rises=False)
    table = np.array([aucs[name] for name in NAMES]).T
    expected = stats.page_trend_test(table, predicted_ranks=[4, 3, 2, 1]).pvalue
    assert tested.p_for == pytest.approx(expected)
    assert verdict(tested) is Verdict.REPRODUCED
    assert verdict(trend("", falling, NAMES, aucs, rises=True)) is Verdict.NOT_REPRODUCED


def test_a_trend_of_two_arms_is_none(falling: Outcome) -> None:
    two = Outcome(ARMS, tuple(each for each in falling.results if each.cell.arm.name in NAMES[:2]), FILMS)
    assert verdict(trend("", two, NAMES, {name: two.test_aucs(name) for name in NAMES}, False)) is Verdict.NOT_TESTABLE


def test_times_are_welchs_test_of_logarithms() -> None:
    values = {"slow": [10.0, 10.5, 9.8], "fast": [5.0, 5.2, 4.9], "once": [10.0]}
    tested = times("", "seconds", values, "slow", "fast")
    logarithms = np.log(values["slow"]), np.log(values["fast"])
    assert tested.p_for == pytest.approx(stats.ttest_ind(*logarithms, equal_var=False, alternative="greater").pvalue)
    assert tested.numbers == "seconds 10.1 ± 0.3 (slow) and 5.03 ± 0.1 (fast): 2.01 times"
    assert verdict(times("", "s", values, "slow", "fast", at_least=1.5)) is Verdict.REPRODUCED
    assert verdict(times("", "s", values, "slow", "fast", at_least=3.0)) is Verdict.NOT_REPRODUCED
    assert verdict(times("", "s", values, "fast", "slow")) is Verdict.NOT_REPRODUCED
    assert verdict(times("", "s", values, "once", "fast")) is Verdict.NOT_TESTABLE
    assert verdict(times("", "s", values, "slow", "never trained")) is Verdict.NOT_TESTABLE


def test_spread_is_the_f_test() -> None:
    values = {"wide": [8.0, 10.0, 13.0, 9.0, 12.0], "narrow": [10.0, 10.1, 9.9, 10.05, 9.95]}
    tested = more_spread("", "s", values, "wide", "narrow")
    ratio = np.var(np.log(values["wide"]), ddof=1) / np.var(np.log(values["narrow"]), ddof=1)
    assert tested.p_for == pytest.approx(stats.f.sf(ratio, 4, 4))
    assert verdict(tested) is Verdict.REPRODUCED
    assert verdict(more_spread("", "s", values, "narrow", "wide")) is Verdict.NOT_REPRODUCED


def test_what_is_counted_is_certain_and_what_is_not_tested_is_left_out_of_the_correction() -> None:
    weak = Evidence("weak", "", 0.012, 0.9)
    judged = verdicts([counted("yes", True, ""), counted("no", False, ""), untested("perhaps", "why"), weak])
    assert [each.verdict for each in judged] == [
        Verdict.REPRODUCED, Verdict.NOT_REPRODUCED, Verdict.NOT_TESTABLE, Verdict.REPRODUCED,
    ]  # fmt: skip
    assert judged[3].p_value == pytest.approx(0.024)
    assert math.isnan(judged[2].p_value)


def test_many_weak_claims_are_not_borne_out_together() -> None:
    assert verdict(Evidence("", "", 0.02, 0.98)) is Verdict.REPRODUCED
    together = verdicts([Evidence("", "", 0.02, 0.98)] * 3)
    assert {each.verdict for each in together} == {Verdict.NOT_TESTABLE}


def test_pure_chance_rarely_bears_out_any_claim_of_a_study() -> None:
    """Four trends and four ratios of nothing, 300 times: at least one is borne out in at most 5 %, but for chance."""
    random = np.random.default_rng(1)
    borne_out = 0
    for _ in range(300):
        values = random.lognormal(sigma=0.1, size=(8, 2, 4))
        tested = [times("", "s", {"a": one, "b": other}, "a", "b") for one, other in values]
        borne_out += any(each.verdict is Verdict.REPRODUCED for each in verdicts(tested))
    assert stats.binomtest(borne_out, 300, 0.05, alternative="greater").pvalue > 0.001


def test_arms_without_a_model_are_no_arms() -> None:
    cells = [Cell(ARMS[0], 0), Cell(ARMS[0], 1)]
    lost = Outcome(ARMS[:1], tuple(diverged(cell) for cell in cells), FILMS)
    assert lost.arms == []
    assert verdict(more_accurate("", lost, "BZ 8", "BZ 16")) is Verdict.NOT_TESTABLE
    assert lost.median("BZ 8", SECONDS) == []


def test_verdicts_survive_their_file() -> None:
    for judged in verdicts([counted("a", True, "b"), untested("c", "d")]):
        again = Judged.from_json(judged.to_json())
        assert (again.claim, again.verdict, again.evidence) == (judged.claim, judged.verdict, judged.evidence)
        assert again.p_value == judged.p_value or (math.isnan(again.p_value) and math.isnan(judged.p_value))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([124.0, 144.0], "134 ± 10"),
        ([0.1732, 0.179], "0.176 ± 0.003"),
        ([1912.3, 1950.0], "1,930 ± 20"),
        ([1e-5, 3e-5], "0.00002 ± 0.00001"),
        ([7.0], "7"),
    ],
)
def test_repetitions_in_words_have_no_powers_of_ten(values: list[float], words: str) -> None:
    assert in_words(values) == words
