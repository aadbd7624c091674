"""Requests that wait at the same time are predicted together, and each gets what is its own."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radflow.inference.dynamic_batcher import DynamicBatcher


def films_of(*values: int) -> np.ndarray:
    return np.asarray(values, np.uint8)[:, np.newaxis, np.newaxis]


class GatedModel:
    """Gives twice a film's value; a batch takes until the gate is opened."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.has_begun, self.gate = threading.Event(), threading.Event()

    def __call__(self, films: np.ndarray) -> np.ndarray:
        self.batches.append(films.ravel().tolist())
        self.has_begun.set()
        assert self.gate.wait(30)
        if 13 in films:
            raise ArithmeticError("thirteen")
        return films.reshape(-1, 1) * 2.0


def predicted_behind(first: np.ndarray, *others: np.ndarray, limit: int = 32) -> tuple[list, list[list[int]]]:
    """Answers, or errors, of requests of which the others come while the first is computed; and the batches."""
    model = GatedModel()
    batcher = DynamicBatcher(model, limit)
    with ThreadPoolExecutor(1 + len(others)) as pool:
        asked = [pool.submit(batcher, first)]
        assert model.has_begun.wait(30)
        for count, films in enumerate(others, 1):
            asked.append(pool.submit(batcher, films))
            while len(batcher._waiting) < count:
                time.sleep(0.001)
        model.gate.set()
        return [one.exception(30) or one.result().ravel().tolist() for one in asked], model.batches


def test_requests_that_wait_are_predicted_together_in_their_order() -> None:
    answers, batches = predicted_behind(films_of(1), films_of(2, 3), films_of(4), films_of(5))
    assert batches == [[1], [2, 3, 4, 5]]
    assert answers == [[2], [4, 6], [8], [10]]


def test_a_batch_holds_no_more_than_its_limit_but_for_one_request_that_is_larger() -> None:
    _, batches = predicted_behind(
        films_of(1), films_of(2, 3), films_of(4, 5), films_of(6), films_of(7, 8, 9, 10), limit=3
    )
    assert batches == [[1], [2, 3], [4, 5, 6], [7, 8, 9, 10]]


def test_an_error_reaches_all_requests_of_its_batch_and_no_others() -> None:
    answers, _ = predicted_behind(films_of(1), films_of(2), films_of(13), films_of(3, 4), limit=2)
    assert answers[0] == [2]
    assert [type(answer) for answer in answers[1:3]] == [ArithmeticError, ArithmeticError]
    assert answers[3] == [6, 8]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 255), min_size=1, max_size=4), min_size=1, max_size=20), st.integers(1, 6))
def test_each_of_many_threads_gets_what_is_its_own(requests, limit) -> None:
    batcher = DynamicBatcher(lambda films: films.reshape(-1, 1) + 0.5, limit)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda values: batcher(films_of(*values)), requests))
    assert [answer.ravel().tolist() for answer in answers] == [[value + 0.5 for value in each] for each in requests]


def test_one_request_after_another_is_predicted_alone() -> None:
    model = GatedModel()
    model.gate.set()
    batcher = DynamicBatcher(model, 32)
    for value in (1, 2):
        np.testing.assert_array_equal(batcher(films_of(value)), [[2.0 * value]])
    assert model.batches == [[1], [2]]
    with pytest.raises(ArithmeticError, match="thirteen"):
        batcher(films_of(13))
    np.testing.assert_array_equal(batcher(films_of(3)), [[6.0]])


def test_answers_do_not_wait_for_the_next_batch() -> None:
    """Two requests share the second batch; both are answered while the third is still computed."""
    gates = {value: threading.Event() for value in (1, 2, 4)}
    begun = {value: threading.Event() for value in gates}

    def predict(films: np.ndarray) -> np.ndarray:
        first = int(films[0, 0, 0])
        begun[first].set()
        assert gates[first].wait(30)
        return films.reshape(-1, 1) * 2.0

    batcher = DynamicBatcher(predict, 2)
    with ThreadPoolExecutor(4) as pool:
        asked = []
        for value in (1, 2, 3, 4):
            asked.append(pool.submit(batcher, films_of(value)))
            assert begun[1].wait(30)
            while len(batcher._waiting) < value - 1:
                time.sleep(0.001)
        gates[1].set()
        gates[2].set()
        assert begun[4].wait(30)
        assert [one.result(30).item() for one in asked[:3]] == [2, 4, 6]
        gates[4].set()
        assert asked[3].result(30).item() == 8
