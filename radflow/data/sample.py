"""The data set called `sample`: phantom films, made on first use, with which everything runs without patients' data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from radflow.data.copies import on_disk
from radflow.data.dataset import Dataset
from radflow.data.phantom import write_phantom_films
from radflow.data.preprocess import PreprocessConfig, preprocess
from radflow.errors import UserError
from radflow.files import only_one_process
from radflow.storage import locate
from radflow.terminal import progress_bar, say

SAMPLE = "sample"
"""The word that stands for the phantom films in `data`, `source` and `input`."""

SAMPLE_FOLDER = Path("data/sample")


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Make phantom chest films in the layout of ChestX-ray14."""

    out: str = str(SAMPLE_FOLDER / "films")
    """Folder to write; it must not exist."""
    films: int = 6000
    """Number of films."""
    image_size: int = 64
    """Height and width in pixels, 64 to 1024."""
    archive: bool = False
    """Pack the films as images_001.tar.gz, as the release does, instead of a folder of PNGs."""
    seed: int = 0
    """Same seed, same bytes."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.films < 10:
            raise UserError(f"films={self.films} must be at least 10")


def make_sample(config: SampleConfig) -> None:
    """Write phantom films to `config.out`; raises UserError where it exists already."""
    folder = Path(config.out)
    if folder.exists():
        raise UserError(f"out={folder} exists already; give another folder or delete it")
    say(f"making {config.films} phantom films of {config.image_size} px in {folder}")
    with progress_bar("phantom films", "films", config.films) as move:
        write_phantom_films(folder, config.films, config.image_size, config.seed, config.archive, on_progress=move)


def source_folder(source: str) -> Path:
    """The folder that a `source` or `input` names; `sample` is made if it is not there yet."""
    if source != SAMPLE:
        return locate(source)
    folder = SAMPLE_FOLDER / "films"
    with only_one_process(SAMPLE_FOLDER / ".lock"):  # ranks and jobs that start together
        if not folder.exists():
            make_sample(SampleConfig(out=str(folder)))
    return folder


def dataset_folder(data: str) -> Path:
    """The data set folder that `data` names; `sample` is made, and one in a bucket is fetched, if not there yet."""
    if data != SAMPLE:
        return on_disk(locate(data))
    folder = SAMPLE_FOLDER / "dataset"
    films = source_folder(SAMPLE)
    with only_one_process(SAMPLE_FOLDER / ".lock"):
        if not folder.exists():
            size = SampleConfig().image_size
            preprocess_with_bar(PreprocessConfig(source=str(films), out=str(folder), image_size=size))
    return folder


def preprocess_with_bar(config: PreprocessConfig) -> Dataset:
    """Preprocess with a progress bar that counts films done and rejected."""
    with progress_bar("preprocessing", "films") as move:

        def show(done: int, total: int, rejected: int) -> None:
            move(done, f"preprocessing, {rejected} rejected", total)

        return preprocess(config, show)
