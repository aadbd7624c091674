from __future__ import annotations

from radflow.evaluation.auc import FindingAuc
from radflow.evaluation.literature import PUBLISHED_MEANS, remarks_on


def test_a_finding_far_outside_what_is_published_is_remarked_upon() -> None:
    """Published AUCs of Edema are .835 to .888, of Mass .706 to .868."""
    results = {
        "Edema": FindingAuc(0.60, 0.55, 0.65, 40, 400),
        "Mass": FindingAuc(0.66, 0.60, 0.72, 40, 400),
        "Hernia": FindingAuc(0.999, 0.99, 1.0, 40, 400),
        "Fracture": FindingAuc(0.5, 0.4, 0.6, 40, 400),
    }
    below, above = remarks_on(results)
    assert below == "Edema: 0.600 (0.550 to 0.650) is far below what is published, 0.835 to 0.888"
    assert above.startswith("Hernia: 0.999 (0.990 to 1.000) is far above")


def test_every_mean_names_its_split() -> None:
    means = {each.source: each for each in PUBLISHED_MEANS}
    assert means["CheXNet 2017"].auc == "0.841"
    assert means["Yao 2017"].auc == "0.803"
    assert means["Wang 2017"].auc == "0.738"
    assert all("split" in each.split or "list" in each.split for each in PUBLISHED_MEANS)
