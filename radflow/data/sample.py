"""The dataset called `sample`: phantom films, made on first use, with which everything runs without patients' data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from radflow.data.config import PreprocessConfig
from radflow.data.crops.lesions import CropConfig
from radflow.data.dataset.copies import on_disk
from radflow.data.dataset.joined import join_datasets
from radflow.data.dataset.reading import Dataset, open_dataset
from radflow.data.phantom.chest.folder import write_phantom_films
from radflow.data.phantom.chest.hospitals import HospitalName
from radflow.data.phantom.mammogram.folder import write_phantom_mammograms
from radflow.data.preprocess import preprocess
from radflow.errors import UserError
from radflow.locks import only_one_process
from radflow.storage import Location, locate
from radflow.terminal import progress_bar, say

SAMPLE = "sample"
"""The word that stands for the phantom films in `data`, `source` and `input`."""

SAMPLE_FOLDER = Path("data/sample")

MAMMOGRAM_CROP, MAMMOGRAM_SIZE = 128, 64
"""Side of the sample's crops on mammograms of 800 rows, where they hold the largest lesion, and as stored."""


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Make phantom films: chest films in the layout of ChestX-ray14, or mammograms in that of CBIS-DDSM."""

    kind: Literal["chest", "mammograms"] = "chest"
    """Which films."""
    out: str = "auto"
    """Folder to write, which must not exist; auto is data/sample/films or data/sample/mammograms."""
    films: int = 0
    """Number of films; 0 is 6000 of the chest or 160 mammograms."""
    image_size: int = 0
    """Height in pixels: 64 to 1024 of square chest films (0 is 64), 400 to 2048 of mammograms (0 is 800)."""
    archive: bool = False
    """Pack chest films as images_001.tar.gz, as the release does, instead of a folder of PNGs."""
    hospital: HospitalName = "first"
    """Where chest films come from: second has other exposure, more portable films and more findings."""
    seed: int = 0
    """Same seed, same bytes."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.films and self.films < 10:
            raise UserError(f"films={self.films} must be at least 10, or 0 for the usual number")
        if self.archive and self.kind == "mammograms":
            raise UserError("archive=true is for chest films; CBIS-DDSM is published as folders")
        if self.hospital != "first" and self.kind == "mammograms":
            raise UserError(f"hospital={self.hospital} is for chest films; mammograms come from the first")

    def settled(self) -> SampleConfig:
        """The same with what is left to the kind of film filled in."""
        out, films, image_size = ("films", 6000, 64) if self.kind == "chest" else ("mammograms", 160, 800)
        return replace(
            self,
            out=str(SAMPLE_FOLDER / out) if self.out == "auto" else self.out,
            films=self.films or films,
            image_size=self.image_size or image_size,
        )


def check_new(config: SampleConfig) -> None:
    """Raise UserError where the folder that `config.out` names exists already."""
    folder = config.settled().out
    if Path(folder).exists():
        raise UserError(f"out={folder} exists already; give another folder or delete it")


def make_sample(config: SampleConfig) -> None:
    """Write phantom films to `config.out`; raises UserError where it exists already."""
    config = config.settled()
    check_new(config)
    folder = Path(config.out)
    unit = "chest films" if config.kind == "chest" else "mammograms"
    say(f"making {config.films} phantom {unit} of {config.image_size} px in {folder}")
    with progress_bar(f"phantom {unit}", "films", config.films) as move:
        if config.kind == "chest":
            write_phantom_films(
                folder,
                config.films,
                config.image_size,
                config.seed,
                config.archive,
                config.hospital,
                on_progress=move,
            )
        else:
            write_phantom_mammograms(folder, config.films, config.image_size, config.seed, on_progress=move)


def source_folder(source: str) -> Location:
    """The folder that a `source` or `input` names; `sample` is made if it is not there yet."""
    if source != SAMPLE:
        return locate(source)
    folder = SAMPLE_FOLDER / "films"
    with only_one_process(SAMPLE_FOLDER / ".lock"):  # ranks and jobs that start together
        if not folder.exists():
            make_sample(SampleConfig(out=str(folder)))
    return folder


def dataset_folder(data: str) -> Path:
    """The dataset folder that `data` names; `sample` is made, and one in a bucket is fetched, if not there yet."""
    if data != SAMPLE:
        return on_disk(locate(data))
    return _sample_once(PreprocessConfig(out="dataset", image_size=SampleConfig().settled().image_size))


def study_folder() -> Path:
    """The same films as a dataset for studies; made if not there yet.

    Of the smallest side that networks take, and with half of the films to test on: many trainings take little time, and
    small differences between them are significant.
    """
    return _sample_once(
        PreprocessConfig(out="dataset-study", image_size=32, split="random", val_fraction=0.2, test_fraction=0.5)
    )


def _sample_once(config: PreprocessConfig) -> Path:
    """The sample's films preprocessed into this folder of the sample's, unless it is there."""
    folder, films = SAMPLE_FOLDER / config.out, source_folder(SAMPLE)
    with only_one_process(SAMPLE_FOLDER / ".lock"):
        if not folder.exists():
            preprocess_with_bar(replace(config, source=str(films), out=str(folder)))
    return folder


def open_data(data: str) -> Dataset:
    """Open the dataset that `data` names, or join the several that it names with commas; raises `UserError`."""
    datasets = [open_dataset(dataset_folder(each.strip())) for each in data.split(",")]
    return datasets[0] if len(datasets) == 1 else join_datasets(datasets)


def mammogram_folder(data: str) -> Path:
    """The dataset folder that `data` names where it is to hold mammograms; `sample` is made of phantom ones."""
    if data != SAMPLE:
        return dataset_folder(data)
    films, folder = SAMPLE_FOLDER / "mammograms", SAMPLE_FOLDER / "mammogram-crops"
    with only_one_process(SAMPLE_FOLDER / ".lock"):
        if not films.exists():
            make_sample(SampleConfig(kind="mammograms", out=str(films)))
        if not folder.exists():
            crops = CropConfig(crop_size=MAMMOGRAM_CROP)
            size = MAMMOGRAM_SIZE
            preprocess_with_bar(PreprocessConfig(source=str(films), out=str(folder), image_size=size, crops=crops))
    return folder


def preprocess_with_bar(config: PreprocessConfig, units: Path | None = None) -> Dataset:
    """Preprocess with a progress bar that counts films done and rejected; see `preprocess`."""
    with progress_bar("preprocessing", "films") as move:

        def show(done: int, total: int, rejected: int) -> None:
            move(done, f"preprocessing, {rejected} rejected", total)

        return preprocess(config, show, units)
