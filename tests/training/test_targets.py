"""What training makes of labels that are uncertain or unknown."""

from __future__ import annotations

import numpy as np
import pytest

from radflow.data.dataset.shards import FilmTable
from radflow.errors import UserError
from radflow.training.loss_config import LossConfig
from radflow.training.targets import prevalences, training_targets

FINDINGS = ("Mass", "Edema")
NAN = np.nan
TABLE = FilmTable(
    image_ids=np.array(list("abcd")),
    patient_ids=np.array(list("abcd")),
    views=np.full(4, "PA"),
    splits=np.full(4, "train"),
    labels=np.array([[1, 0], [0, 0], [0, 1], [0, 0]], bool),
    known=np.array([[1, 1], [0, 0], [1, 1], [0, 1]], bool),
    uncertain=np.array([[0, 0], [1, 1], [0, 0], [0, 0]], bool),
)
"""Of the second film both findings are uncertain; of the fourth nothing is said of Mass."""


@pytest.mark.parametrize(
    ("rule", "second"),
    [
        ("ignore", [NAN, NAN]),
        ("zeros", [0, 0]),
        ("ones", [1, 1]),
        ("soft", [0.7, 0.7]),
        ("Edema:ones", [NAN, 1]),
        ("Mass:zeros, Edema:soft", [0, 0.7]),
        ("Mass:ignore,ones", [NAN, 1]),
    ],
)
def test_uncertain_labels_are_what_the_rule_says_and_unknown_ones_teach_nothing(rule: str, second: list[float]) -> None:
    expected = np.array([[1, 0], second, [0, 1], [NAN, 0]], np.float32)
    np.testing.assert_array_equal(training_targets(TABLE, FINDINGS, rule), expected)


def test_prevalences_are_of_what_teaches() -> None:
    targets = np.array([[1, 0, NAN], [NAN, 0.5, NAN], [0, 1, NAN]], np.float32)
    assert prevalences(targets).tolist() == [0.5, 0.5, 0]


@pytest.mark.parametrize("rule", ["maybe", "", "zeros,ones", "Edema:ones,Edema:zeros", "Edema:perhaps", "ones,"])
def test_a_rule_that_is_none_is_a_mistake(rule: str) -> None:
    with pytest.raises(UserError, match="uncertain="):
        LossConfig(uncertain=rule)


def test_a_rule_for_a_finding_that_the_dataset_has_not_names_those_that_it_has() -> None:
    with pytest.raises(UserError, match="no finding Hernia; it has Mass, Edema"):
        training_targets(TABLE, FINDINGS, "Hernia:ones,zeros")
