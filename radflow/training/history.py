"""The metrics of each epoch as lines of JSON, for a process that follows the training."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

HISTORY_FILE = "history.jsonl"


def write_epoch(folder: Path | None, epoch: int, metrics: Mapping[str, float]) -> None:
    """Append `{"epoch": 1, "train/loss": ..., ...}`; epochs count from 1, and what is not finite becomes null."""
    if folder is None:
        return
    values = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
    with (folder / HISTORY_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"epoch": epoch, **values}) + "\n")


def read_epochs(path: Path) -> Iterator[dict[str, float | None]]:
    """The epochs written so far; a last line that is still being written is left for the next time."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)
