"""The fourteen findings of ChestX-ray14 and how often the release lists them."""

FINDINGS: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
"""In the order of Table 1 of CheXNet (arXiv:1711.05225), which is the order of every label vector in radflow."""

NO_FINDING = "No Finding"
"""What the release writes where none of the fourteen is present; an all-false label vector here."""

RELEASED_FILMS = 112_120

RELEASED_COUNTS: dict[str, int] = {
    "Atelectasis": 11_559,
    "Cardiomegaly": 2_776,
    "Effusion": 13_317,
    "Infiltration": 19_894,
    "Mass": 5_782,
    "Nodule": 6_331,
    "Pneumonia": 1_431,
    "Pneumothorax": 5_302,
    "Consolidation": 4_667,
    "Edema": 2_303,
    "Emphysema": 2_516,
    "Fibrosis": 1_686,
    "Pleural_Thickening": 3_385,
    "Hernia": 227,
    NO_FINDING: 60_361,
}
"""Films per finding in the released Data_Entry_2017_v2020.csv.

Table I of the paper differs: it repeats Emphysema's count for Effusion and follows the 2017 file for others.
"""
