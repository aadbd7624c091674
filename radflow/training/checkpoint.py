"""Checkpoints: whole or not there, plain arrays, no pickle."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from radflow.errors import UserError
from radflow.files import atomic_file


@dataclass(frozen=True)
class Checkpoint:
    """What training needs to go on after an epoch."""

    weights: list[np.ndarray]
    """Of the model, trainable or not, in Keras' order."""
    optimizer: list[np.ndarray]
    """Of the optimiser's variables."""
    progress: dict[str, Any]
    """JSON values: epoch, learning-rate schedule, best validation score."""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write one .npz file, replacing what was there only when the new one is whole on disk."""
    arrays: dict[str, Any] = {f"weights/{place:04d}": array for place, array in enumerate(checkpoint.weights)}
    arrays |= {f"optimizer/{place:04d}": array for place, array in enumerate(checkpoint.optimizer)}
    arrays["progress"] = np.frombuffer(json.dumps(checkpoint.progress).encode(), np.uint8)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; every array is checked against the CRC that the archive holds.

    Raises UserError when it is missing or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = sorted(archive.files)
            return Checkpoint(
                weights=[archive[name] for name in names if name.startswith("weights/")],
                optimizer=[archive[name] for name in names if name.startswith("optimizer/")],
                progress=json.loads(archive["progress"].tobytes()),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"checkpoint {path} cannot be read: {error}; use an earlier one or train anew") from error
