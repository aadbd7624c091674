"""Whether a dataset has the two classes that training on mammograms tells apart."""

from __future__ import annotations

from radflow.data.crops.mammograms import TUMOUR_FINDINGS
from radflow.data.dataset.reading import Dataset
from radflow.errors import UserError


def check_classes(data: str, dataset: Dataset) -> None:
    """Raise UserError unless each split of a dataset, given as `data`, shows tumours and normal tissue.

    Without both there would be no AUC in the end, after hours of training.
    """
    if dataset.findings != TUMOUR_FINDINGS:
        raise UserError(
            f"data={data} has labels for {', '.join(dataset.findings[:3])} ... and none for "
            f"{TUMOUR_FINDINGS[0]}; give crops of mammograms, as `preprocess` makes them of CBIS-DDSM or mini-MIAS"
        )
    for split, counts in dataset.manifest.splits.items():
        tumours = counts.positives[TUMOUR_FINDINGS[0]]
        if not tumours or tumours == counts.rows:
            kinds = "no crop with a tumour" if not tumours else "no crop of normal tissue"
            raise UserError(f"data={data} has {kinds} in {split}; preprocess with other fractions or more films")
