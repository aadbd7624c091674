"""What others have published of the scaling of such training, each with its source."""

from __future__ import annotations

from typing import NamedTuple


class PublishedEfficiency(NamedTuple):
    """An efficiency on a number of processes."""

    what: str
    ranks: int
    efficiency: float
    """Share of as many times the speed of one."""
    source: str


_HOROVOD = "Sergeev and Del Balso 2018, arXiv:1802.05799"

PUBLISHED_EFFICIENCIES = (
    PublishedEfficiency("Inception V3, ResNet-101, 512 Pascal GPUs", 512, 0.90, _HOROVOD),
    PublishedEfficiency("VGG-16, 512 Pascal GPUs", 512, 0.68, _HOROVOD),
    PublishedEfficiency(
        "CheXNet, 16 V100 GPUs, 1,913 images/s", 16, 0.65, "Dell HPC AI Innovation Lab, article 000124388"
    ),
)


class PublishedSpeed(NamedTuple):
    """A speed as a multiple of the paper's yardstick, DenseNet-121 with BZ 8 in one process."""

    what: str
    arch: str
    ranks: int
    times: float
    source: str


YARDSTICK = ("densenet121", 8)
"""Network and local batch, on one rank."""

_PAPER = "the paper, section III-C and Figure 15"

PUBLISHED_SPEEDS = (
    PublishedSpeed("VGG-16, GBZ 8,192, 64 ranks", "vgg16", 64, 293.0, _PAPER),
    # "A speedup of 6.29x over the AdaDelta-optimized DenseNet with GBZ=4096".
    PublishedSpeed("DenseNet-121, GBZ 4,096, 64 ranks", "densenet121", 64, 293 / 6.29, _PAPER),
)
