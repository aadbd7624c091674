from __future__ import annotations

import numpy as np
import pytest

from radflow.data.readers.boxes import FindingBox
from radflow.inference.box_scores import score_boxes

SIZE = 32


class Films:
    """As much of a split as scoring asks for: films of a patient each, of their row's brightness."""

    def __init__(self, films: int) -> None:
        self.image_ids = self.patient_ids = np.array([f"{row}.png" for row in range(films)])

    def __len__(self) -> int:
        return len(self.image_ids)

    def gather(self, rows: np.ndarray) -> np.ndarray:
        return np.stack([np.full((SIZE, SIZE), row, np.uint8) for row in rows])


def score(maps: dict[int, np.ndarray], boxes: list[FindingBox], fit: str = "squash", films: int = 2):
    return score_boxes(
        Films(films),
        boxes,
        ["Mass", "Effusion"],
        fit,
        lambda batch: np.stack([maps[int(film[0, 0])] for film in batch]),
    )


def peak_at(row: int, column: int, cells: int = 8) -> np.ndarray:
    """Maps [cells, cells, 2] that are largest in one cell for Mass and flat for Effusion."""
    maps = np.zeros((cells, cells, 2), np.float32)
    maps[row, column, 0] = 1.0
    return maps


def test_a_map_that_points_into_the_box_is_told_from_one_beside_it() -> None:
    """Cell 1, 6 of 8x8 is y 125 to 250 and x 750 to 875 of a film of 1000 pixels."""
    box = FindingBox("0.png", "Mass", 740, 120, 140, 140, 1000, 1000)
    found = score({0: peak_at(1, 6), 1: peak_at(5, 2)}, [box, box._replace(image_id="1.png")])["Mass"]
    assert found.films == 2
    assert found.pointing.value == 0.5
    assert found.chance == pytest.approx(0.14**2, abs=0.006)
    assert found.overlap.value == pytest.approx(0.5, abs=0.15)  # one covers the box nearly, the other not at all


@pytest.mark.parametrize(
    ("fit", "row", "column"),
    [("squash", 0, 6), ("pad", 2, 6)],  # a film twice as wide as high, padded above and below
)
def test_boxes_lie_where_the_film_lies_in_its_square(fit: str, row: int, column: int) -> None:
    box = FindingBox("0.png", "Mass", 1500, 0, 250, 125, 2000, 1000)
    assert score({0: peak_at(row, column)}, [box], fit, films=1)["Mass"].pointing.value == 1
    assert score({0: peak_at(row + 2, column)}, [box], fit, films=1)["Mass"].pointing.value == 0


def test_names_of_other_releases_are_known_and_what_cannot_be_placed_is_left_out() -> None:
    box = FindingBox("0.png", "Pleural effusion", 0, 0, 500, 500, 1000, 1000)
    others = [box._replace(image_id="9.png"), box._replace(finding="Hernia"), box._replace(film_width=0)]
    found = score({0: peak_at(0, 0)}, [box, *others], films=1)
    assert list(found) == ["Effusion"]
    assert found["Effusion"].films == 1
    assert score({}, others) == {}
