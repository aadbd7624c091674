"""Files of registry/ (policy, model card, the served model's code), in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

_RADFLOW = Path(__file__).parent
_FOLDERS = (_RADFLOW / "registry", _RADFLOW.parent / "registry")
"""Folders looked in: in a wheel it is inside the package, in a checkout beside it."""


def registry_file(name: str) -> Path:
    """Path of radflow's own file of this name."""
    return next((folder / name for folder in _FOLDERS if (folder / name).exists()), _FOLDERS[-1] / name)


def find_registry_file(path: str) -> Path:
    """Absolute path of the file that a setting names; radflow's own where `registry/NAME` is not in this folder."""
    given, own = Path(path), registry_file(Path(path).name)
    is_absent = given.parent == Path("registry") and not given.exists()
    return own if is_absent and own.exists() else given.absolute()
