"""Crops joined to what was cropped: a lesion, or all that was cropped of a film, gets the mean of its crops."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from radflow.data.dataset.shards import FLAGS
from radflow.evaluation.auc import FindingAuc, auc_per_finding
from radflow.evaluation.predictions import Predictions

Group = Literal["lesion", "film"]
GROUPS: tuple[Group, ...] = ("lesion", "film")


def auc_per_group(predictions: Predictions) -> dict[Group, dict[str, FindingAuc]]:
    """AUC of each finding with lesions, and with films, for units; nothing where the images are not crops."""
    return {group: auc_per_finding(joined(predictions, group)) for group in GROUPS if predictions.are_crops}


def joined(predictions: Predictions, group: Group) -> Predictions:
    """One row a unit, with the mean probability of its crops.

    With lesions, a unit is all crops of a lesion, or all of the normal tissue of a film. With films, it is all tumour
    crops of a film, or all of its normal tissue: the two are not mixed, since in CBIS-DDSM every film has a tumour, so
    that nothing would be left to tell it from.

    Raises ValueError where the crops of a unit differ in a label, or belong to two patients or splits.
    """
    names = _lesions(predictions) if group == "lesion" else _films_by_label(predictions)
    units, first, unit_of, counts = np.unique(names, return_index=True, return_inverse=True, return_counts=True)
    for column in (predictions.patient_ids, predictions.splits, *(getattr(predictions, name) for name in FLAGS)):
        if (column[first][unit_of] != column).any():
            raise ValueError(f"crops of one {group} differ in patient, split or label; expected them to agree")
    sums = np.zeros((len(units), len(predictions.findings)))
    np.add.at(sums, unit_of, predictions.probabilities.astype(np.float64))
    return Predictions(
        findings=predictions.findings,
        image_ids=units,
        patient_ids=predictions.patient_ids[first],
        splits=predictions.splits[first],
        **{name: getattr(predictions, name)[first] for name in FLAGS},
        probabilities=(sums / counts[:, np.newaxis]).astype(np.float32),
    )


def _lesions(predictions: Predictions) -> NDArray[np.str_]:
    """The lesion of each crop; the film, said to be normal, of one that shows none."""
    normal = np.array([f"{film}:normal" for film in predictions.film_ids.tolist()])
    return np.where(predictions.lesion_ids != "", predictions.lesion_ids, normal)


def _films_by_label(predictions: Predictions) -> NDArray[np.str_]:
    flags = np.concatenate([getattr(predictions, name) for name in FLAGS], axis=1)
    kinds = ["".join(map(str, row)) for row in flags.astype(int).tolist()]
    return np.array([f"{film}:{kind}" for film, kind in zip(predictions.film_ids.tolist(), kinds, strict=True)])
