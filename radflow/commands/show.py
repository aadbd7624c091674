"""`python -m radflow data show`: a dataset checked and drawn."""

from __future__ import annotations

from pathlib import Path

from radflow.data.dataset.reading import verify_dataset
from radflow.errors import UserError
from radflow.plots.overview import draw_overview, print_overview
from radflow.terminal import progress_bar, say


def show_dataset(path: Path, out: Path, seed: int) -> None:
    """Check every hash of a dataset, print its tables and draw its pictures into `out`; raises `UserError`."""
    with progress_bar("checking hashes", "shards") as move:
        dataset = verify_dataset(path, lambda done, total: move(done, total=total))
    print_overview(dataset)
    try:
        pictures = draw_overview(dataset, out, seed)
    except OSError as error:
        raise UserError(f"out={out} cannot be written: {error}; name another folder") from error
    shards = dataset.manifest.shards
    say(f"{len(shards)} shards of {sum(shard.bytes for shard in shards):,} bytes are as the manifest says")
    say(f"{len(pictures)} pictures: {out}")
