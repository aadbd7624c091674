"""How often each finding occurs in a dataset: the paper's Table I."""

from __future__ import annotations

import pandas as pd

from radflow.data.dataset.reading import Dataset

NO_FINDINGS_ROW = "No Findings"
TOTALS_ROW = "Totals"


def frequency_table(dataset: Dataset) -> pd.DataFrame:
    """Return Table I of the paper for a dataset: Disease, Images, Percentage, and the images of each split.

    One row a finding, then `No Findings` and `Totals`. Percentages are of all films, with two decimals; they add up to
    more than the total's 100 because a film may show several findings.
    """
    splits = dataset.manifest.splits
    images = {name: {**counts.positives, NO_FINDINGS_ROW: counts.no_finding, TOTALS_ROW: counts.rows}
              for name, counts in splits.items()}  # fmt: skip
    table = pd.DataFrame(images, index=[*dataset.findings, NO_FINDINGS_ROW, TOTALS_ROW])
    total = table.sum(axis=1)
    table.insert(0, "Images", total)
    table.insert(1, "Percentage", (100 * total / total[TOTALS_ROW]).round(2))
    return table.rename_axis("Disease").reset_index()
