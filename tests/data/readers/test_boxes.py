from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from radflow.data.readers.boxes import FindingBox
from radflow.data.readers.chestxray14 import read_box_list
from radflow.errors import UserError

HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


def test_the_released_list(real_data: Path) -> None:
    """984 boxes of 8 findings on 880 films (Wang et al., CVPR 2017, section 3.2)."""
    boxes = read_box_list(real_data / "nih_labels_full" / "BBox_List_2017.csv.gz")
    assert (len(boxes), len({box.image_id for box in boxes})) == (984, 880)
    assert boxes[0] == FindingBox(
        "00013118_008.png",
        "Atelectasis",
        225.084745762712,
        547.019216763771,
        86.7796610169491,
        79.1864406779661,
        1024,
        1024,
    )
    assert Counter(box.finding for box in boxes)["Infiltration"] == 123


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.png,Pneumona,1,1,5,5", r"row 2 \('a.png'\) is not a box on a film: unknown finding 'Pneumona'"),
        ("a.png,Mass,1,1,5,x", "row 2 .* could not convert string to float: 'x'"),
        ("a.png,Mass,1,1,nan,5", "x, y, width and height 1, 1, nan, 5 leave 1024x1024"),
        ("a.png,Mass,1,1,0,5", "leave 1024x1024"),
        ("a.png,Mass,1000,1,30,5", "leave 1024x1024"),
        ("a.png,Mass,1,1", "row 2 has 4 cells, expected at least 6"),
    ],
)
def test_what_is_no_box_is_one_line(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "BBox_List_2017.csv").write_text(f"{HEADER}\n{row}\n")
    with pytest.raises(UserError, match=message):
        read_box_list(tmp_path / "BBox_List_2017.csv")
