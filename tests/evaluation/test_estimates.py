from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from radflow.evaluation.estimates import proportion


def test_films_of_different_patients_have_wilson_s_interval() -> None:
    hits = np.arange(50) < 37
    found = proportion(np.ones(50, bool), hits, np.arange(50))
    # n / (n - 1) is the patients' variance's; scipy's is that of the score test alone.
    published = stats.binomtest(37, 50).proportion_ci(method="wilson")
    assert found.value == 0.74
    assert found.interval == pytest.approx((published.low, published.high), abs=0.002)


@pytest.mark.parametrize(("hits", "films"), [(0, 12), (12, 12), (1, 1)])
def test_shares_of_0_and_1_have_wilson_s_interval_too(hits: int, films: int) -> None:
    found = proportion(np.ones(films, bool), np.arange(films) < hits, np.arange(films))
    published = stats.binomtest(hits, films).proportion_ci(method="wilson")
    assert found.interval == pytest.approx((published.low, published.high))


def test_films_of_a_patient_that_agree_count_once() -> None:
    hits = np.arange(60) < 41
    once = proportion(np.ones(60, bool), hits, np.arange(60))
    five = proportion(np.ones(300, bool), np.repeat(hits, 5), np.repeat(np.arange(60), 5))
    assert five.interval == pytest.approx(once.interval)


def test_films_that_do_not_count_are_left_out_and_without_any_nothing_is_known() -> None:
    counted = np.array([True, True, False])
    assert proportion(counted, np.array([True, False, True]), np.arange(3)).value == 0.5
    assert not proportion(np.zeros(3, bool), counted, np.arange(3)).is_known


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), min_size=1, max_size=30))
@settings(deadline=None)
def test_an_interval_holds_its_share_and_stays_between_0_and_1(films) -> None:
    counted, hits, patients = (np.array(column) for column in zip(*films, strict=True))
    found = proportion(counted, hits & counted, patients)
    if counted.any():
        assert 0 <= found.low <= found.value + 1e-12
        assert found.value - 1e-12 <= found.high <= 1
