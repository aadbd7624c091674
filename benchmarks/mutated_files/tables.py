"""Lists, tables and settings that people write, as small as they can be."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

from benchmarks.mutated_files.small_file import SmallFile
from radflow.data.readers.cbis_ddsm import LABEL_FILES, read_lesion_rows
from radflow.data.readers.chestxray14 import read_box_list, read_label_file
from radflow.data.readers.film_lists import read_film_list
from radflow.data.readers.mini_mias import MiniMias
from radflow.promotion.policy import read_policy
from radflow.search.space import PRESETS, read_space

POLICY = Path(__file__).resolve().parents[2] / "registry" / "policy.yaml"


def labels() -> bytes:
    """The label file of ChestX-ray14."""
    lines = ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"]
    kinds = ("Mass|Nodule", "No Finding", "Cardiomegaly", "Effusion")
    lines += [
        f"{row:08d}_000.png,{kinds[row % 4]},0,{row // 2},058Y,M,{'PA' if row % 3 else 'AP'}" for row in range(30)
    ]
    return ("\n".join(lines) + "\n").encode()


def lesions() -> bytes:
    """A CSV of CBIS-DDSM."""
    content = io.StringIO()
    film = "Mass-Training_P_00001_LEFT_CC"
    writer = csv.writer(content)
    columns = "patient_id,left or right breast,image view,abnormality id,pathology,image file path,ROI mask file path"
    writer.writerow(columns.split(","))
    for number in range(1, 9):
        writer.writerow(["P_00001", "LEFT", "CC", number, "BENIGN", f"{film}/1/2.dcm", f"{film}_{number}/1/\n3.dcm"])
    return content.getvalue().encode()


def boxes() -> bytes:
    lines = ["Image Index,Finding Label,Bbox [x,y,w,h],,,"]
    lines += [f"0000000{row}_000.png,Mass,{row}.5,{row},100.25,200,,," for row in range(1, 10)]
    return "\n".join(lines).encode()


MIAS = (
    b"INFO\n\n" + b"".join(b"mdb%03d G CIRC B %d 425 197\n" % (n, 500 + n) for n in range(1, 20)) + b"mdb020 D NORM\n"
)


def _read_mias(path: Path) -> None:
    MiniMias.at(path.parent).read_films()


def table_files() -> dict[str, SmallFile]:
    """Kinds by name."""
    names = b"".join(b"%d.png\n" % number for number in range(30))
    return {
        "labels of ChestX-ray14": SmallFile("Data_Entry_2017.csv", labels(), read_label_file),
        "labels, gzipped": SmallFile("Data_Entry_2017.csv.gz", gzip.compress(labels(), mtime=0), read_label_file),
        "film list": SmallFile("test_list.txt", names, read_film_list, weight=2),
        "boxes": SmallFile("BBox_List_2017.csv", boxes(), read_box_list),
        "lesions of CBIS-DDSM": SmallFile(LABEL_FILES[0], lesions(), read_lesion_rows),
        "list of mini-MIAS": SmallFile("Info.txt", MIAS, _read_mias, weight=2),
        "search space": SmallFile("s.yaml", (PRESETS / "quick.yaml").read_bytes(), lambda path: read_space(str(path))),
        "policy": SmallFile("policy.yaml", POLICY.read_bytes(), read_policy, weight=2),
    }
