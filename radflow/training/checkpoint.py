"""Checkpoints: whole or not there, plain arrays, no pickle."""

from __future__ import annotations

import hashlib
import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from radflow.errors import UserError
from radflow.files import atomic_file, open_regular, sha256_file
from radflow.terminal import warn

KEPT = 2
"""Checkpoints beside the best: where the newest is damaged, training goes on from the one before."""
BEST = "best.npz"
DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Checkpoint:
    """What training needs to go on after an optimiser step."""

    weights: list[np.ndarray]
    """Weights of the model, trainable or not, in Keras' order."""
    optimizer: list[np.ndarray]
    """Values of the optimiser's variables and of the average of weights; none where only weights are kept."""
    progress: dict[str, Any]
    """JSON values: what else training remembers."""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write one .npz file with its SHA-256 behind it; it replaces what was there only when it is whole on disk."""
    arrays: dict[str, Any] = {f"weights/{place:04d}": array for place, array in enumerate(checkpoint.weights)}
    arrays |= {f"optimizer/{place:04d}": array for place, array in enumerate(checkpoint.optimizer)}
    arrays["progress"] = np.frombuffer(json.dumps(checkpoint.progress).encode(), np.uint8)
    with atomic_file(path) as temporary:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        digest = bytes.fromhex(sha256_file(temporary))
        with temporary.open("ab") as file:
            file.write(digest)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, held against its SHA-256: zip's own checks leave the names and places of arrays unchecked.

    Raises UserError when it is missing or damaged anywhere.
    """
    try:
        with open_regular(path) as file:
            content = file.read()
        whole, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
        if hashlib.sha256(whole).digest() != digest:
            raise ValueError("its bytes differ from its SHA-256")
        with np.load(io.BytesIO(whole), allow_pickle=False) as archive:
            names = sorted(archive.files)
            return Checkpoint(
                weights=[archive[name] for name in names if name.startswith("weights/")],
                optimizer=[archive[name] for name in names if name.startswith("optimizer/")],
                progress=json.loads(archive["progress"].tobytes()),
            )
    except Exception as error:  # zipfile, numpy and json raise a dozen kinds for damaged bytes
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"checkpoint {path} cannot be read: {reason}; use an earlier one or retrain") from error


class Checkpoints(Protocol):
    """The place that checkpoints go to, and come from."""

    def write_snapshot(self, epoch: int, weights: list[np.ndarray]) -> None:
        """Keep the weights after `epoch` epochs."""

    def newest(self) -> Checkpoint | None:
        """The newest whole one, if there is one."""

    def best(self) -> Checkpoint | None:
        """The weights of the best epoch, if there are any."""

    def snapshots(self) -> dict[int, list[np.ndarray]]:
        """The snapshots kept, by number of epochs."""

    def is_due(self) -> bool:
        """Whether it is time for one inside an epoch."""

    def write(self, step: int, checkpoint: Checkpoint) -> None:
        """Keep the state after optimiser step `step` of the job."""

    def write_best(self, checkpoint: Checkpoint) -> None:
        """Keep the weights of the best epoch."""


class NoCheckpoints:
    """Keeps nothing: for every rank but the first."""

    def write_snapshot(self, epoch: int, weights: list[np.ndarray]) -> None:
        """Do nothing."""

    def newest(self) -> None:
        """None."""

    def best(self) -> None:
        """None."""

    def snapshots(self) -> dict[int, list[np.ndarray]]:
        """None."""
        return {}

    def is_due(self) -> bool:
        """Never."""
        return False

    def write(self, step: int, checkpoint: Checkpoint) -> None:
        """Do nothing."""

    def write_best(self, checkpoint: Checkpoint) -> None:
        """Do nothing."""


class CheckpointFolder:
    """The checkpoints of a job: the last two, and the weights of the best epoch.

    A checkpoint that cannot be written (a full disk) costs a warning, not the training: those before it stay, and the
    next one is tried again.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        """Take `folder` for a job that writes a checkpoint inside an epoch every so many `minutes`."""
        self._folder = folder
        self._seconds = 60 * minutes
        self._written_at = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough for a new one inside an epoch."""
        return time.monotonic() - self._written_at >= self._seconds

    def write(self, step: int, checkpoint: Checkpoint) -> None:
        """Write the checkpoint after optimiser step `step` of the job, and remove those that are too old."""
        self._try_to_write(self._folder / f"step-{step:08d}.npz", checkpoint)
        self._written_at = time.monotonic()
        for old in self._by_age()[KEPT:]:
            old.unlink()

    def write_best(self, checkpoint: Checkpoint) -> None:
        """Replace the weights of the best epoch."""
        self._try_to_write(self._folder / BEST, checkpoint)

    def write_snapshot(self, epoch: int, weights: list[np.ndarray]) -> None:
        """Keep the weights after `epoch` epochs."""
        self._try_to_write(self._folder / f"snapshot-{epoch:04d}.npz", Checkpoint(weights, [], {"epoch": epoch}))

    def newest(self) -> Checkpoint | None:
        """The newest whole checkpoint; None before there is one. Raises UserError when all are damaged."""
        paths = self._by_age()
        for path in paths:
            try:
                return read_checkpoint(path)
            except UserError as error:
                warn(f"{error}")
        if paths:
            raise UserError(f"no checkpoint in {self._folder} is whole; give another resume=FOLDER, or resume=none")
        return None

    def best(self) -> Checkpoint | None:
        """The weights of the best epoch; None before there is one, or when the file is damaged."""
        path = self._folder / BEST
        if not path.exists():
            return None
        try:
            return read_checkpoint(path)
        except UserError as error:
            warn(f"{error}; the best epoch is looked for among those to come")
            return None

    def snapshots(self) -> dict[int, list[np.ndarray]]:
        """The weights kept by number of epochs; raises UserError when one is damaged."""
        kept = [read_checkpoint(path) for path in sorted(self._folder.glob("snapshot-*.npz"))]
        return {checkpoint.progress["epoch"]: checkpoint.weights for checkpoint in kept}

    def _by_age(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.npz"), reverse=True)

    def _try_to_write(self, path: Path, checkpoint: Checkpoint) -> None:
        try:
            write_checkpoint(path, checkpoint)
        except OSError as error:
            warn(f"checkpoint {path} was not written: {error}; training goes on")
