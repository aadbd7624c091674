"""What others have published of the scaling of such training, each with its source."""

from __future__ import annotations

from typing import NamedTuple


class PublishedScaling(NamedTuple):
    """An efficiency on a number of processes."""

    what: str
    ranks: int
    efficiency: float
    """Share of as many times the speed of one."""
    source: str


_HOROVOD = "Sergeev and Del Balso 2018, arXiv:1802.05799"

PUBLISHED = (
    PublishedScaling("Inception V3, ResNet-101, 512 Pascal GPUs", 512, 0.90, _HOROVOD),
    PublishedScaling("VGG-16, 512 Pascal GPUs", 512, 0.68, _HOROVOD),
    PublishedScaling(
        "CheXNet, 16 V100 GPUs, 1,913 images/s", 16, 0.65, "Dell HPC AI Innovation Lab, article 000124388"
    ),
)

PAPER_SPEEDUP = 293
"""Speed of the paper's VGG-16 with GBZ 8,192 on 64 ranks over its DenseNet-121 with BZ 8 in one process (Figure 15)."""
