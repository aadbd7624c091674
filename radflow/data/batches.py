"""Gathers, and augments, films of the next batches while the current one is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from radflow.data.dataset.reading import Split

BATCHES_AHEAD = 2

Augment = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Films uint8 [n, size, size] and their places [n] in the split -> the films that are trained on."""


class Batch(NamedTuple):
    """Arrays of one micro-step."""

    films: np.ndarray
    """uint8 [n, size, size]."""
    labels: np.ndarray
    """float32 [n, findings], from 0 to 1; NaN for what teaches nothing."""
    weights: np.ndarray
    """float32 [n]: 0 for a film that only fills the shape."""


def gather_ahead(
    split: Split,
    selections: Iterable[tuple[np.ndarray, np.ndarray]],
    augment: Augment | None = None,
    targets: np.ndarray | None = None,
) -> Iterator[Batch]:
    """Yield a Batch for each (indices [n], weights [n]), gathered by a thread up to two batches ahead.

    `targets` [films of the split, findings] are its labels; without them, they are whether a finding is present.
    A gather is a copy out of mapped memory, which releases the interpreter lock, as augmentation's interpolation does;
    one thread keeps the order.
    """
    labels = split.labels.astype(np.float32) if targets is None else targets

    def gather(indices: np.ndarray, weights: np.ndarray) -> Batch:
        films = split.gather(indices)
        return Batch(films if augment is None else augment(films, indices), labels[indices], weights)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
        waiting: deque = deque()
        for indices, weights in selections:
            waiting.append(pool.submit(gather, indices, weights))
            if len(waiting) > BATCHES_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
