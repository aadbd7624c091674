"""Datasets as they are released: one module each, which keeps the contract in `base`."""

from __future__ import annotations

from radflow.data.readers.base import Reader
from radflow.data.readers.cbis_ddsm import CbisDdsm
from radflow.data.readers.chestxray14 import ChestXray14
from radflow.data.readers.chexpert import CheXpert
from radflow.data.readers.csv_table import CsvTable
from radflow.data.readers.inbreast import INbreast
from radflow.data.readers.mimic_cxr import MimicCxr
from radflow.data.readers.mini_mias import MiniMias
from radflow.data.readers.padchest import PadChest
from radflow.data.readers.precut_ddsm import PrecutDdsm
from radflow.data.readers.vindr_cxr import VinDrCxr
from radflow.data.readers.vindr_mammo import VinDrMammo

READERS: tuple[type[Reader], ...] = (
    ChestXray14,
    CbisDdsm,
    MiniMias,
    PrecutDdsm,
    CheXpert,
    MimicCxr,
    PadChest,
    VinDrCxr,
    VinDrMammo,
    INbreast,
    CsvTable,
)
"""Readers in the order in which they are asked whether they recognise a folder."""
