"""Dynamic batching: films of requests that wait at the same time are predicted together; models carry this module."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np


class DynamicBatcher:
    """Calls `predict` once for the films of all threads that wait for it, as larger batches take less time a film.

    While one batch is computed, those who come wait, and their films are the next one. Nobody waits for more to come.
    """

    def __init__(self, predict: Callable[[np.ndarray], np.ndarray], limit: int) -> None:
        """`predict` gives [n, findings] of films [n, size, size].

        A batch has up to `limit` films; a request that has more is a batch of its own.
        """
        self._predict = predict
        self._limit = limit
        self._waiting: deque[tuple[np.ndarray, Future[np.ndarray]]] = deque()
        self._turns = ThreadPoolExecutor(1)

    def __call__(self, films: np.ndarray) -> np.ndarray:
        """What `predict` gives for these films, or the error that it raised for a batch which they were part of."""
        answer: Future[np.ndarray] = Future()
        self._waiting.append((films, answer))
        self._turns.submit(self._predict_next)
        return answer.result()

    def _predict_next(self) -> None:
        """Predict the films that have waited longest, if an earlier turn has left any."""
        if not self._waiting:
            return
        films, answers = self._next_batch()
        ends = np.cumsum([len(each) for each in films])
        try:
            parts = np.split(self._predict(np.concatenate(films)), ends[:-1])
        except Exception as error:  # noqa: BLE001 (whatever it is, each of the waiting threads raises it)
            for answer in answers:
                answer.set_exception(error)
            return
        for answer, part in zip(answers, parts, strict=True):
            answer.set_result(part)

    def _next_batch(self) -> tuple[list[np.ndarray], list[Future[np.ndarray]]]:
        """The first request, and those behind it that fit."""
        batch = [self._waiting.popleft()]
        count = len(batch[0][0])
        while self._waiting and (count := count + len(self._waiting[0][0])) <= self._limit:
            batch.append(self._waiting.popleft())
        films, answers = zip(*batch, strict=True)
        return list(films), list(answers)
