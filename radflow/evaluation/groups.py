"""Images joined to what they show: crops to a lesion or to a film, views to a breast, which gets their mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from radflow.data.dataset.shards import FLAGS
from radflow.evaluation.auc import FindingAuc, auc_per_finding
from radflow.evaluation.predictions import Predictions

Group = Literal["lesion", "film", "breast"]
GROUPS: tuple[Group, ...] = get_args(Group)


def auc_per_group(predictions: Predictions) -> dict[Group, dict[str, FindingAuc]]:
    """AUC of each finding with lesions and films for units of crops, and breasts for units of views; else nothing."""
    groups: dict[Group, dict[str, FindingAuc]] = {}
    if predictions.are_crops:
        groups = {group: auc_per_finding(joined(predictions, group)) for group in ("lesion", "film")}
    elif (predictions.sides != "").any():
        groups = {"breast": auc_per_finding(joined_breasts(predictions))}
    return groups


def joined(predictions: Predictions, group: Literal["lesion", "film"]) -> Predictions:
    """One row a unit, with the mean probability of its crops.

    With lesions, a unit is all crops of a lesion, or all of the normal tissue of a film. With films, it is all tumour
    crops of a film, or all of its normal tissue: the two are not mixed, since in CBIS-DDSM every film has a tumour, so
    that nothing would be left to tell it from.

    Raises ValueError where the crops of a unit differ in a label, or belong to two patients or splits.
    """
    names = _lesions(predictions) if group == "lesion" else _films_by_label(predictions)
    units, first, unit_of = np.unique(names, return_index=True, return_inverse=True)
    for column in (predictions.patient_ids, predictions.splits, *(getattr(predictions, name) for name in FLAGS)):
        if (column[first][unit_of] != column).any():
            raise ValueError(f"crops of one {group} differ in patient, split or label; expected them to agree")
    return _units(predictions, units, first, unit_of, [getattr(predictions, name)[first] for name in FLAGS])


def joined_breasts(predictions: Predictions) -> Predictions:
    """One row a breast of an examination, with the mean probability of its views; images without a side stay alone.

    A finding is present in a breast if a view shows it, absent if all views are known not to show it, and else unknown.
    """
    examined = zip(predictions.patient_ids.tolist(), predictions.study_ids.tolist(), predictions.sides.tolist(),
                   predictions.image_ids.tolist(), strict=True)  # fmt: skip
    names = np.array([f"{patient}/{study}/{side}" if side else image for patient, study, side, image in examined])
    units, first, unit_of = np.unique(names, return_index=True, return_inverse=True)
    shape = (len(units), len(predictions.findings))
    present, unknown, possible = np.zeros(shape, bool), np.zeros(shape, bool), np.zeros(shape, bool)
    np.logical_or.at(present, unit_of, predictions.labels)
    np.logical_or.at(unknown, unit_of, ~predictions.known)
    np.logical_or.at(possible, unit_of, predictions.uncertain)
    known = present | ~unknown
    return _units(predictions, units, first, unit_of, (present, known, possible & ~known))


def _units(
    predictions: Predictions,
    units: NDArray[np.str_],
    first: NDArray[np.intp],
    unit_of: NDArray[np.intp],
    flags: Sequence[NDArray[np.bool_]],
) -> Predictions:
    """Units with the mean probability of their images, the patient and split of the first, and these `FLAGS`."""
    labels, known, uncertain = flags
    sums = np.zeros((len(units), len(predictions.findings)))
    np.add.at(sums, unit_of, predictions.probabilities.astype(np.float64))
    counts = np.bincount(unit_of, minlength=len(units))
    return Predictions(
        findings=predictions.findings,
        image_ids=units,
        patient_ids=predictions.patient_ids[first],
        splits=predictions.splits[first],
        labels=labels,
        known=known,
        uncertain=uncertain,
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
