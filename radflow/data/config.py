"""Settings of `preprocess`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from radflow.data.crops.lesions import CropConfig
from radflow.data.images.film import Fit
from radflow.data.readers import READERS
from radflow.data.readers.base import Request
from radflow.data.readers.film_lists import ListConfig
from radflow.data.readers.table_config import TableConfig
from radflow.data.tasks import ImageUnit, is_task
from radflow.errors import UserError

if TYPE_CHECKING:  # for which a Literal must be written out
    Layout = str
else:
    Layout = Literal[("auto", *(reader.layout for reader in READERS))]


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """Make a dataset on disk of films as they are released."""

    source: str = "sample"
    """Folder or s3://bucket/prefix with films and lists as released; ChestX-ray14 as PNGs, tar.gz or zip archives."""
    layout: Layout = "auto"
    """The release that source holds; auto recognises it by the label files."""
    out: str = "data/dataset"
    """Folder for the dataset, where one that is already there is replaced; or s3://bucket/prefix, where none is yet."""
    unit: Literal["auto"] | ImageUnit = "auto"
    """Images that are made: whole films, crops of lesions and of normal tissue, or breasts cut out of mammograms, with
    the chest wall at the left; auto is crops of mammograms with located lesions, and films of the rest."""
    fit: Literal["auto", "pad", "squash"] = "auto"
    """How films that are not square become so: black beside them, or another scale across than along; auto is squash
    for ChestX-ray14, of which the release is squashed itself, and pad for the rest."""
    image_size: int = 0
    """Height and width of the stored images in pixels, 32 to 1024; 0 is 224 for chest films and 299 for mammograms."""
    split: Literal["official", "random", "lists"] = "official"
    """Division of the films; official: the release's own test part, or a table's column (mini-MIAS is always random);
    random: by patient, by seed;
    lists: films by train_list, val_list and test_list."""
    views: str = ""
    """View positions of chest films that are taken, as PA,AP; empty is all. Others are named in rejected.csv."""
    val_fraction: float = 0.1
    """Share of patients for validation: of those outside the test part (official, lists), or of all (random)."""
    test_fraction: float = 0.2
    """Share of all patients for the test part (random only)."""
    max_rejected: float = 0.01
    """Largest share of images that may be missing or damaged before it is an error, 0 to 1."""
    workers: int = 0
    """Processes that decode films (0 = all cores this process may use), on each of the hosts."""
    hosts: str = ""
    """Machines that decode films together, as node1,node2; empty is this one. All must see source and out."""
    ssh_agent: str = ""
    """Command that starts a program on another host, as ssh -p 2222; empty is ssh."""
    interface: str = ""
    """Network interfaces, or addresses as 10.0.0.0/24, by which hosts reach each other; empty is any."""
    seed: int = 0
    """Seed of the split, and of the crops of mammograms."""
    task: str = "auto"
    """What is classified, in a word, by which families of models are told apart (registry/policy.yaml); auto is chest,
    mammo for crops, breast for breasts, and other for one's own films."""
    name: str = "auto"
    """Name of the dataset in MLflow; auto is the layout's, or phantoms for films that `sample` has made."""
    lists: Annotated[ListConfig, Parameter(name="*")] = field(default_factory=ListConfig)
    own_table: Annotated[TableConfig, Parameter(name="*")] = field(default_factory=TableConfig)
    crops: Annotated[CropConfig, Parameter(name="*")] = field(default_factory=CropConfig)

    def __post_init__(self) -> None:
        size_is_known = self.image_size == 0 or 32 <= self.image_size <= 1024
        require(size_is_known, f"image_size={self.image_size}", "32 to 1024 pixels")
        require(self.split in ("official", "random", "lists"), f"split={self.split}", "official, random or lists")
        if self.task != "auto" and not is_task(self.task):
            raise UserError(f"task={self.task} must be a word of small letters, digits and _, such as chest")
        lists = self.lists.paths()
        if self.split == "lists":
            require({"train", "test"} <= lists.keys(), "split=lists without both", "train_list and test_list")
        elif lists:
            given = " and ".join(f"{split}_list" for split in lists)
            raise UserError(f"{given} with split={self.split}: give split=lists too, or no lists")
        require(0 < self.val_fraction < 1, f"val_fraction={self.val_fraction}", "more than 0 and less than 1")
        require(0 < self.test_fraction < 1, f"test_fraction={self.test_fraction}", "more than 0 and less than 1")
        if self.split == "random":
            both = self.val_fraction + self.test_fraction
            require(both < 1, f"val_fraction + test_fraction = {both:g}", "less than 1, to leave films to train")
        require(0 <= self.max_rejected <= 1, f"max_rejected={self.max_rejected}", "0 to 1")
        require(self.workers >= 0, f"workers={self.workers}", "0 (all cores) or more")

    @property
    def makes_square_by(self) -> Fit:
        """How films become square, once `unit` and `fit` are settled."""
        if self.unit == "breasts":
            return "breast"
        return "pad" if self.fit == "pad" else "squash"

    @property
    def request(self) -> Request:
        """The settings that a reader follows."""
        return Request(**{setting.name: getattr(self, setting.name) for setting in fields(Request)})


def require(holds: bool, given: str, expected: str) -> None:
    """Raise `UserError` that names what was given and what was expected, unless it holds."""
    if not holds:
        raise UserError(f"{given} is out of range: expected {expected}")
