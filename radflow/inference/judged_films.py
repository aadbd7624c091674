"""The films of a dataset as a model takes them: resized, with the findings that both know."""

from __future__ import annotations

from dataclasses import dataclass

from radflow.data.dataset.reading import Dataset, Split, SplitForModel
from radflow.data.findings import plain_finding
from radflow.errors import UserError
from radflow.inference.description import Calibration, Description, Outputs


@dataclass(frozen=True)
class JudgedFilms:
    """Films that a model judges."""

    split: Split
    """Films of the model's size, with labels of the common findings."""
    outputs: Outputs
    """What the model's outputs of the common findings mean; these have the model's names."""
    columns: list[int]
    """Their places among the model's outputs."""
    untested: tuple[str, ...]
    """Findings of the model that the dataset does not label."""
    unknown: tuple[str, ...]
    """Findings of the dataset that the model does not give."""


def judged_films(dataset: Dataset, split: str, description: Description, image_size: int, model: str) -> JudgedFilms:
    """Match findings by name, or by names that are known to mean the same, and resize films of another size.

    Raises UserError where no finding is common, or there are no such films.
    """
    place_in_dataset = {plain_finding(finding): place for place, finding in enumerate(dataset.findings)}
    places = [place_in_dataset.get(plain_finding(finding)) for finding in description.findings]
    columns = [column for column, place in enumerate(places) if place is not None]
    if not columns:
        raise UserError(
            f"model={model} gives {', '.join(description.findings)}, and data={dataset.path} has none of these but "
            f"{', '.join(dataset.findings)}; give a dataset that labels one of them"
        )
    labelled = [place for place in places if place is not None]
    return JudgedFilms(
        split=SplitForModel(dataset.split(split), image_size, labelled),
        outputs=_outputs_at(description, columns),
        columns=columns,
        untested=tuple(finding for finding, place in zip(description.findings, places, strict=True) if place is None),
        unknown=tuple(finding for place, finding in enumerate(dataset.findings) if place not in labelled),
    )


def _outputs_at(description: Description, columns: list[int]) -> Outputs:
    calibration = description.calibration
    if calibration.slopes.ndim:
        calibration = Calibration(calibration.slopes[columns], calibration.offsets[columns])
    return Outputs(
        findings=tuple(description.findings[column] for column in columns),
        thresholds={rule: values[columns] for rule, values in description.thresholds.items()},
        calibration=calibration,
        fit=description.fit,
    )
