"""Which findings phantom films have: aggregate figures of ChestX-ray14, and by how much each is raised."""

from __future__ import annotations

from radflow.data.readers.chestxray14 import FINDINGS, NO_FINDING

COMBINATIONS: tuple[tuple[str, int, int], ...] = (
    ("No Finding", 60_361, 21_059),
    ("Infiltration", 9_547, 4_277),
    ("Atelectasis", 4_215, 2_005),
    ("Effusion", 3_955, 1_869),
    ("Nodule", 2_705, 781),
    ("Pneumothorax", 2_194, 688),
    ("Mass", 2_139, 772),
    ("Effusion|Infiltration", 1_603, 1_083),
    ("Atelectasis|Infiltration", 1_350, 881),
    ("Consolidation", 1_310, 964),
    ("Atelectasis|Effusion", 1_165, 546),
    ("Pleural_Thickening", 1_126, 251),
    ("Cardiomegaly", 1_093, 347),
    ("Emphysema", 892, 367),
    ("Infiltration|Nodule", 829, 348),
    ("Atelectasis|Effusion|Infiltration", 737, 452),
    ("Fibrosis", 727, 79),
    ("Edema", 628, 577),
    ("Cardiomegaly|Effusion", 484, 219),
    ("Consolidation|Infiltration", 441, 358),
    ("Infiltration|Mass", 420, 221),
    ("Effusion|Pneumothorax", 403, 112),
    ("Effusion|Mass", 402, 132),
    ("Atelectasis|Consolidation", 398, 269),
    ("Mass|Nodule", 394, 110),
    ("Edema|Infiltration", 392, 350),
    ("Infiltration|Pneumothorax", 345, 210),
    ("Consolidation|Effusion", 337, 238),
    ("Emphysema|Pneumothorax", 337, 125),
    ("Pneumonia", 322, 146),
    ("Effusion|Pleural_Thickening", 251, 73),
    ("Effusion|Nodule", 249, 82),
    ("Atelectasis|Pneumothorax", 240, 87),
    ("Infiltration|Pleural_Thickening", 210, 86),
    ("Atelectasis|Consolidation|Effusion", 200, 139),
    ("Cardiomegaly|Infiltration", 200, 115),
    ("Infiltration|Pneumonia", 199, 90),
    ("Atelectasis|Nodule", 199, 66),
    ("Edema|Effusion", 189, 161),
    ("Fibrosis|Infiltration", 185, 41),
    ("Mass|Pneumothorax", 178, 54),
    ("Atelectasis|Mass", 175, 73),
    ("Consolidation|Mass", 151, 78),
    ("Nodule|Pleural_Thickening", 140, 23),
    ("Edema|Infiltration|Pneumonia", 137, 132),
    ("Consolidation|Effusion|Infiltration", 134, 95),
    ("Mass|Pleural_Thickening", 132, 39),
    ("Nodule|Pneumothorax", 130, 35),
    ("Consolidation|Nodule", 128, 51),
    ("Edema|Effusion|Infiltration", 127, 108),
    ("Emphysema|Infiltration", 126, 75),
    ("Cardiomegaly|Effusion|Infiltration", 120, 81),
    ("Atelectasis|Emphysema", 117, 52),
    ("Atelectasis|Pleural_Thickening", 117, 37),
    ("Hernia", 110, 12),
    ("Atelectasis|Pneumonia", 108, 26),
    ("Effusion|Infiltration|Nodule", 106, 67),
    ("Atelectasis|Consolidation|Infiltration", 104, 83),
    ("Atelectasis|Fibrosis", 104, 14),
    ("Atelectasis|Effusion|Pneumothorax", 99, 31),
    ("Effusion|Infiltration|Mass", 99, 46),
    ("Effusion|Emphysema", 96, 30),
    ("Atelectasis|Cardiomegaly", 88, 37),
    ("Effusion|Infiltration|Pneumothorax", 88, 54),
    ("Edema|Pneumonia", 83, 76),
    ("Atelectasis|Consolidation|Effusion|Infiltration", 81, 58),
    ("Pleural_Thickening|Pneumothorax", 79, 18),
    ("Atelectasis|Effusion|Mass", 72, 27),
    ("Emphysema|Infiltration|Pneumothorax", 72, 41),
    ("Effusion|Infiltration|Pleural_Thickening", 71, 34),
    ("Atelectasis|Infiltration|Pneumothorax", 71, 33),
    ("Fibrosis|Pleural_Thickening", 70, 6),
    ("Atelectasis|Cardiomegaly|Effusion", 68, 25),
    ("Infiltration|Mass|Nodule", 67, 31),
    ("Atelectasis|Infiltration|Mass", 67, 33),
    ("Emphysema|Mass", 66, 28),
    ("Fibrosis|Nodule", 66, 6),
    ("Consolidation|Effusion|Mass", 65, 36),
    ("Effusion|Mass|Nodule", 65, 14),
    ("Effusion|Fibrosis", 59, 14),
    ("Atelectasis|Infiltration|Nodule", 57, 24),
    ("Atelectasis|Emphysema|Pneumothorax", 54, 17),
    ("Effusion|Pneumonia", 54, 22),
    ("Atelectasis|Cardiomegaly|Effusion|Infiltration", 54, 28),
    ("Consolidation|Edema", 49, 43),
    ("Consolidation|Pneumothorax", 49, 18),
    ("Atelectasis|Edema", 48, 43),
    ("Effusion|Emphysema|Pneumothorax", 47, 13),
    ("Atelectasis|Effusion|Pleural_Thickening", 47, 12),
    ("Consolidation|Infiltration|Nodule", 47, 37),
    ("Consolidation|Pleural_Thickening", 46, 18),
    ("Emphysema|Pleural_Thickening", 46, 11),
    ("Atelectasis|Infiltration|Pleural_Thickening", 45, 18),
    ("Atelectasis|Effusion|Infiltration|Pneumothorax", 44, 19),
    ("Atelectasis|Effusion|Nodule", 43, 21),
    ("Effusion|Infiltration|Pneumonia", 42, 23),
    ("Consolidation|Infiltration|Mass", 42, 28),
    ("Atelectasis|Effusion|Infiltration|Pleural_Thickening", 41, 18),
    ("Cardiomegaly|Consolidation", 40, 23),
    ("Atelectasis|Hernia", 21, 6),
    ("Hernia|Infiltration", 15, 4),
    ("Hernia|Mass", 15, 1),
)
"""Label combinations as (findings, films, of them AP films) in the released Data_Entry_2017_v2020.csv.

Made by counting the column "Finding Labels" of its 112,120 rows: the 99 combinations of 40 films or more, and those of
10 or more with Hernia, which is too rare for any other. They cover 96.6 % of the films.
"""

RAISED: dict[str, float] = {
    "Hernia": 40,
    "Pneumonia": 7,
    "Fibrosis": 6,
    "Edema": 4,
    "Emphysema": 4,
    "Cardiomegaly": 3.2,
    "Pleural_Thickening": 2.6,
    "Consolidation": 1.8,
    "Mass": 1.5,
    "Pneumothorax": 1.5,
    "Nodule": 1.3,
}
"""Factors by which the rarer findings are raised, so that a few thousand films hold some hundred of each.

A combination is raised by the largest factor of its findings; what occurs together stays together.
"""


def combination_shares() -> list[float]:
    """Compute the expected share of each of `COMBINATIONS` among phantom films, after raising; they sum to 1."""
    weights = [
        films * max(RAISED.get(finding, 1.0) for finding in combination.split("|"))
        for combination, films, _ in COMBINATIONS
    ]
    total = sum(weights)
    return [weight / total for weight in weights]


def phantom_prevalences() -> dict[str, float]:
    """Compute the expected share of phantom films with each of the 14 findings, and with none (`NO_FINDING`)."""
    shares = combination_shares()
    return {
        finding: sum(
            share
            for (combination, *_), share in zip(COMBINATIONS, shares, strict=True)
            if finding in combination.split("|")
        )
        for finding in (*FINDINGS, NO_FINDING)
    }
