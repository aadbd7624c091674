"""The metrics of each epoch as lines of JSON, for a process that follows the training."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from radflow.files import append_lines

HISTORY_FILE = "history.jsonl"


def write_epoch(folder: Path, epoch: int, metrics: Mapping[str, float]) -> None:
    """Append `{"epoch": 1, "train/loss": ..., ...}`; epochs count from 1, and what is not finite becomes null."""
    values = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
    append_lines(folder / HISTORY_FILE, [json.dumps({"epoch": epoch, **values})])


def read_epochs(path: Path) -> Iterator[dict[str, float | None]]:
    """The epochs written so far.

    A last line that is still being written is left for the next time, and one that its writer did not live to end is
    passed over: the epoch is validated, and written, again.
    """
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        with suppress(ValueError, RecursionError):
            epoch = json.loads(line) if line.endswith("\n") else None
            if isinstance(epoch, dict) and "epoch" in epoch:
                yield epoch


def last_epochs(path: Path) -> Iterator[dict[str, float]]:
    """Each epoch once, as it was in the end where it was validated again after an interruption; NaN for null."""
    epochs = {epoch["epoch"]: epoch for epoch in read_epochs(path)}
    for epoch in epochs.values():
        yield {key: math.nan if value is None else value for key, value in epoch.items()}
