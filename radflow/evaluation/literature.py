"""Published results on ChestX-ray14, each with the split that it is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from radflow.evaluation.auc import FindingAuc

DATASET = "chestxray14"
"""Name of the dataset that the results are of."""
FAR = 0.05
"""How far outside all published AUCs the whole interval of a finding must lie to be remarked upon."""

LITERATURE_AUCS: dict[str, dict[str, float]] = {
    "Wang 2017": {
        "Atelectasis": 0.716, "Cardiomegaly": 0.807, "Effusion": 0.784, "Infiltration": 0.609, "Mass": 0.706,
        "Nodule": 0.671, "Pneumonia": 0.633, "Pneumothorax": 0.806, "Consolidation": 0.708, "Edema": 0.835,
        "Emphysema": 0.815, "Fibrosis": 0.769, "Pleural_Thickening": 0.708, "Hernia": 0.767,
    },
    "Yao 2017": {
        "Atelectasis": 0.772, "Cardiomegaly": 0.904, "Effusion": 0.859, "Infiltration": 0.695, "Mass": 0.792,
        "Nodule": 0.717, "Pneumonia": 0.713, "Pneumothorax": 0.841, "Consolidation": 0.788, "Edema": 0.882,
        "Emphysema": 0.829, "Fibrosis": 0.767, "Pleural_Thickening": 0.765, "Hernia": 0.914,
    },
    "CheXNet 2017": {
        "Atelectasis": 0.8094, "Cardiomegaly": 0.9248, "Effusion": 0.8638, "Infiltration": 0.7345, "Mass": 0.8676,
        "Nodule": 0.7802, "Pneumonia": 0.7680, "Pneumothorax": 0.8887, "Consolidation": 0.7901, "Edema": 0.8878,
        "Emphysema": 0.9371, "Fibrosis": 0.8047, "Pleural_Thickening": 0.8062, "Hernia": 0.9164,
    },
}  # fmt: skip
"""AUCs of ChestX-ray14 as Table 1 of CheXNet (arXiv:1711.05225) prints them; random patient splits of 70/10/20."""

RANDOM_SPLIT = "random 70/10/20 split of patients"
OFFICIAL_LIST = "official test list, 25,596 films"


@dataclass(frozen=True)
class PublishedMean:
    """A published mean AUC over the fourteen findings, as a range where several are known."""

    source: str
    split: str
    auc: str


PUBLISHED_MEANS = (
    *(
        PublishedMean(source, RANDOM_SPLIT, f"{np.mean(list(aucs.values())):.3f}")
        for source, aucs in LITERATURE_AUCS.items()
    ),
    PublishedMean("DenseNet-121", OFFICIAL_LIST, ".804 to .811"),
    PublishedMean("Swin, ConvNeXt", OFFICIAL_LIST, ".80 to .82"),
    PublishedMean("ensemble", OFFICIAL_LIST, ".822"),
)
"""A random split is about .03 easier than the official list."""


def remarks_on(results: Mapping[str, FindingAuc]) -> list[str]:
    """A sentence for each finding whose AUC is far outside those published: wrong labels or films, or another mix."""
    remarks = []
    for finding, result in results.items():
        published = [aucs[finding] for aucs in LITERATURE_AUCS.values() if finding in aucs]
        if not published or np.isnan(result.auc):
            continue
        low, high = min(published), max(published)
        if result.high < low - FAR or result.low > high + FAR:
            remarks.append(
                f"{finding}: {result.auc:.3f} ({result.low:.3f} to {result.high:.3f}) is far "
                f"{'below' if result.auc < low else 'above'} what is published, {low:.3f} to {high:.3f}"
            )
    return remarks
