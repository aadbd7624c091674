"""A look at a file of weights without TensorFlow, so that a wrong one is told before any rank starts."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py

from radflow.errors import UserError

NO_FILE = ("none", "imagenet")
"""Values of `weights` that name no file."""


def check_weights_file(weights: str) -> None:
    """Raise UserError unless `weights` names no file, a readable HDF5 file (.h5) or a readable .keras archive."""
    if weights in NO_FILE:
        return
    path = Path(weights)
    if not path.is_file():
        raise UserError(
            f"weights={weights} is no file at {path.absolute()}; give none, imagenet, a .weights.h5, a .keras model or "
            "a model in MLflow such as models:/NAME@champion"
        )
    try:
        if path.suffix == ".keras":
            zipfile.ZipFile(path).close()
        else:
            h5py.File(path).close()
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"weights={weights} cannot be read ({error}); give a .weights.h5 of the backbone or a .keras model"
        ) from error
