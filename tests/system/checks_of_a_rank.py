"""A program for mpirun: ranks predict films together and compare weights, until the second rank has others.

python checks_of_a_rank.py OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from radflow.cluster.threads import set_threads

set_threads(1)

from small_classifier import FINDINGS, random_films, small_classifier  # noqa: E402

from radflow.cluster.communicator import HorovodCommunicator  # noqa: E402
from radflow.config import exit_code_of  # noqa: E402
from radflow.inference.split_predictor import SplitPredictor  # noqa: E402
from radflow.training.loop import check_equal_weights  # noqa: E402

COUNTS = (7, 1)
"""Films of the splits: one that two ranks cannot halve, and one that leaves a rank without films."""


class Films:
    """A split in memory."""

    def __init__(self, count: int) -> None:
        self.labels = np.zeros((count, len(FINDINGS)), bool)

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        return random_films(max(COUNTS))[indices]


def main(out: Path) -> None:
    communicator, classifier = HorovodCommunicator(), small_classifier()
    predictor = SplitPredictor(classifier, 2, communicator)
    for count in COUNTS:
        np.save(out / f"rank{communicator.rank}-films{count}.npy", predictor.predict(Films(count)))
    check_equal_weights(classifier, communicator)
    (out / f"rank{communicator.rank}-equal").touch()
    if communicator.rank == 1:
        kernel = classifier.get_layer("logits").kernel
        kernel.assign(np.nextafter(kernel.numpy(), np.inf, dtype=np.float32))
    check_equal_weights(classifier, communicator)
    (out / f"rank{communicator.rank}-went-on").touch()


if __name__ == "__main__":
    sys.exit(exit_code_of(lambda: main(Path(sys.argv[1]))))
