from __future__ import annotations

import numpy as np
import pytest
from scipy import special
from sklearn.metrics import roc_auc_score

from benchmarks.drawn_predictions import predictions_of
from radflow.errors import UserError
from radflow.evaluation.predictions import Predictions
from radflow.evaluation.subgroups import evaluate_subgroups, known_columns, largest_deficit


def films_of_sexes(seed: int = 0, worse: float = 0.0, films: int = 1200) -> Predictions:
    """Two films a patient; `worse` takes that share of what is told away for women."""
    chance = np.random.default_rng(seed)
    patients = np.arange(films) // 2
    sexes = np.array(["F", "M"])[chance.integers(0, 2, films // 2)][patients]
    odds = chance.normal(-1, 1.5, (films, 2))
    labels = chance.random((films, 2)) < special.expit(odds)
    told = np.where(
        (sexes == "F")[:, np.newaxis], (1 - worse) * odds + worse * chance.normal(-1, 1.5, (films, 2)), odds
    )
    return predictions_of(
        labels, special.expit(told), patients, sexes=sexes, ages=chance.integers(0, 95, films // 2)[patients]
    )


def test_numbers_are_those_of_the_films_alone() -> None:
    films = films_of_sexes(worse=0.5)
    women, men = evaluate_subgroups(films, films, np.array([0.3, np.nan]), known_columns(films, ["sex"]))
    assert (women.value, men.value) == ("F", "M")
    assert women.films + men.films == len(films)
    scores = [
        np.mean([roc_auc_score(part.labels[:, index], part.probabilities[:, index]) for index in range(2)])
        for part in (films.take(films.sexes == "F"), films.take(films.sexes == "M"))
    ]
    assert women.auc.value == pytest.approx(scores[0])
    assert women.auc_difference.value == pytest.approx(scores[0] - scores[1])
    assert men.auc_difference.value == pytest.approx(scores[1] - scores[0])
    of_women = films.take(films.sexes == "F")
    assert women.sensitivity.value == pytest.approx((of_women.probabilities[of_women.labels[:, 0], 0] >= 0.3).mean())
    excess = (of_women.probabilities - of_women.labels).mean(axis=0)
    assert women.calibration.value == pytest.approx(excess.mean())


def test_a_difference_that_is_there_is_found_and_one_that_is_not_rarely() -> None:
    found = [largest_deficit(_by_sex(films_of_sexes(seed, worse))) for worse in (0.5, 0.0) for seed in range(12)]
    assert [each.value if each else "" for each in found[:12]] == ["F"] * 12
    assert sum(each is not None for each in found[12:]) <= 3  # two groups, each at 2.5 %


def _by_sex(films: Predictions) -> list:
    return evaluate_subgroups(films, films, None, known_columns(films, ["sex"]))


def test_findings_with_few_films_and_films_that_are_not_known_do_not_count() -> None:
    films = films_of_sexes(films=200)
    labels = films.labels.copy()
    labels[10:, 1] = False
    sexes = np.where(np.arange(200) < 20, "", films.sexes)
    parts = _by_sex(predictions_of(labels, films.probabilities, sexes=sexes))
    assert [part.findings for part in parts] == [1, 1]
    assert sum(part.films for part in parts) == 180
    assert all(not part.sensitivity.is_known for part in parts)


def test_ages_come_in_bands_and_one_value_makes_no_subgroup() -> None:
    films = predictions_of(
        np.zeros((6, 1), bool), np.full((6, 1), 0.5), ages=np.array([-1, 0, 17, 18, 79, 80]), sexes=np.full(6, "F")
    )
    columns = known_columns(films)
    assert columns["age"].tolist() == ["", "0 to 17", "0 to 17", "18 to 39", "60 to 79", "80+"]
    values = [(part.column, part.value) for part in evaluate_subgroups(films, films, None, columns)]
    assert values == [("age", "0 to 17"), ("age", "18 to 39"), ("age", "60 to 79"), ("age", "80+")]


def test_an_unknown_column_is_one_line() -> None:
    with pytest.raises(UserError, match="subgroups=scanner is no column of films"):
        known_columns(films_of_sexes(), ["scanner"])
