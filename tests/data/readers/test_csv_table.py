"""One's own films: a folder of images and a table with columns of any names."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nih_folder import png_bytes

from radflow.data.config import PreprocessConfig
from radflow.data.dataset.reading import Dataset
from radflow.data.dataset.shards import UNKNOWN_AGE, FilmTable
from radflow.data.preprocess import preprocess
from radflow.data.readers.film_lists import ListConfig
from radflow.data.readers.table_config import TableConfig
from radflow.errors import UserError

ROWS = """Path,Patient ID,Study,View Position,Gender,Age,Split,Edema,Lung Mass,Comment
a/1.png,00013,s1,pa,F,57,train,1,0,clear
a/2.png,13,s1,LL,female,58.0,train,0,-1,hazy
b/1.png,14,s2,AP,M,058Y,train,,1.0,
b/2.png,15,s3,PA,m,400,train,0,0,
b/3.png,16,s4,PA,x,,train,1,1,
b/4.png,17,s5,PA,M,3,test,-1,0,
b/5.png,18,s6,PA,M,3,test,,,
c/6.png,19,s7,PA,M,3,,0,0,
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Eight films of seven patients with two findings, one of them in no part, and one of which nothing is known."""
    folder = tmp_path / "own"
    for line in ROWS.splitlines()[1:]:
        write_film(folder / line.partition(",")[0])
    (folder / "films.csv").write_text(ROWS)
    return folder


def write_film(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = sum(path.name.encode()) % 200
    path.write_bytes(png_bytes(np.add.outer(np.arange(40), np.arange(40) + shade).astype(np.uint8)))


def run(source: Path, **settings: object) -> Dataset:
    own_table = TableConfig(
        **{name: settings.pop(name) for name in ("table", "columns", "findings") if name in settings}
    )
    lists = ListConfig(**{name: settings.pop(name) for name in ("train_list", "test_list") if name in settings})
    own = {"source": str(source), "out": str(source.parent / "out"), "image_size": 32, "workers": 1}
    return preprocess(PreprocessConfig(**own, own_table=own_table, lists=lists, **settings))


def rows_of(dataset: Dataset) -> FilmTable:
    """All films of a dataset in the order of their names."""
    table = FilmTable.concatenate(
        [dataset.split(name).table for name, counts in dataset.manifest.splits.items() if counts.rows]
    )
    return table.take(np.argsort(table.image_ids))


def mistake(source: Path, **settings: object) -> str:
    with pytest.raises(UserError) as told:
        run(source, **settings)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_all_that_the_table_says_is_kept(source: Path) -> None:
    dataset = run(source)
    manifest = dataset.manifest
    assert (manifest.name, manifest.findings, manifest.task) == ("csv", ("Edema", "Lung Mass"), "other")
    assert list(manifest.sources) == ["films.csv"]
    table = rows_of(dataset)
    assert table.image_ids.tolist() == ["a/1.png", "a/2.png", "b/1.png", "b/2.png", "b/3.png", "b/4.png"]
    assert table.patient_ids.tolist() == ["13", "13", "14", "15", "16", "17"]
    assert table.study_ids.tolist() == ["s1", "s1", "s2", "s3", "s4", "s5"]
    assert table.views.tolist() == ["PA", "LL", "AP", "PA", "PA", "PA"]
    assert table.sexes.tolist() == ["F", "F", "M", "M", "", "M"]
    assert table.ages.tolist() == [57, 58, 58, UNKNOWN_AGE, UNKNOWN_AGE, 3]
    assert table.splits.tolist()[-1] == "test"
    assert table.labels.tolist() == [[1, 0], [0, 0], [0, 1], [0, 0], [1, 1], [0, 0]]
    assert table.known.tolist() == [[1, 1], [1, 0], [0, 1], [1, 1], [1, 1], [0, 1]]
    assert table.uncertain.tolist() == [[0, 0], [0, 1], [0, 0], [0, 0], [0, 0], [1, 0]]
    rejected = pd.read_csv(dataset.path / "rejected.csv").set_index("image_id")["reason"]
    assert rejected.to_dict() == {
        "b/5.png": "the release does not say whether it shows any of the findings",
        "c/6.png": "in no part by films.csv",
    }
    assert manifest.rejected == 0


def test_films_are_divided_by_patient_where_the_user_says_so(source: Path) -> None:
    table = rows_of(run(source, split="random", val_fraction=0.3, test_fraction=0.3))
    assert len(table) == 7
    assert set(table.splits) == {"train", "val", "test"}
    assert len({table.splits[row] for row in range(2)}) == 1  # the two films of patient 13


def test_a_column_of_names_gives_the_findings(source: Path) -> None:
    names = ["Edema|Mass", "No Finding", "", "Mass", "Edema", "normal", "Mass | Edema", "Nodule"]
    table = pd.read_csv(source / "films.csv", dtype=str).drop(columns=["Edema", "Lung Mass", "Comment"])
    table.assign(**{"Finding Labels": names}).to_csv(source / "films.csv", index=False)
    dataset = run(source, split="random", val_fraction=0.2, test_fraction=0.3)
    assert dataset.findings == ("Edema", "Mass", "Nodule")
    rows = rows_of(dataset)
    assert rows.image_ids.tolist() == ["a/1.png", "a/2.png", *(f"b/{number}.png" for number in (2, 3, 4, 5)), "c/6.png"]
    assert rows.labels[:, :2].tolist() == [[1, 1], [0, 0], [0, 1], [1, 0], [0, 0], [1, 1], [0, 0]]
    assert rows.known.all()
    assert run(source, split="random", findings="Mass,Edema").findings == ("Mass", "Edema")


@pytest.mark.parametrize(
    ("name", "separator", "encoding"),
    [
        ("films.tsv", "\t", "utf-8"),
        ("films.csv", ";", "utf-8-sig"),
        ("films.txt", "\t", "utf-16"),
        ("films.csv.gz", ",", "utf-8"),
        ("films.parquet", "", ""),
    ],
)
def test_tables_as_programs_export_them_are_read_alike(source: Path, name: str, separator: str, encoding: str) -> None:
    wanted = rows_of(run(source))
    (source / "films.csv").unlink()
    if name.endswith(".parquet"):
        (source / "temporary").write_text(ROWS)
        pd.read_csv(source / "temporary").to_parquet(source / name)  # numbers, and NaN where cells are empty
        (source / "temporary").unlink()
    else:
        content = ROWS.replace(",", separator).encode(encoding)
        (source / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    got = rows_of(run(source))
    # Numbers lose their leading zeros and patient 13 is one all the same; a mixed column of ages stays text.
    for column in vars(wanted):
        assert np.array_equal(getattr(got, column), getattr(wanted, column)), column


def test_columns_may_be_told(source: Path) -> None:
    text = ROWS.replace("Path,Patient ID", "where,who").replace("Edema", "E1").replace("Split", "part")
    (source / "films.csv").write_text(text)
    assert "has no column that is named like the file; it has where, who" in mistake(source, layout="csv")
    dataset = run(source, layout="csv", columns="file=where,patient=who,split=part", findings="E1")
    assert dataset.findings == ("E1",)
    assert rows_of(dataset).labels[:, 0].tolist() == [1, 0, 0, 1, 0]


@pytest.mark.parametrize("packed", ["in images/, by the last part of its name", "without suffix", "in a zip"])
def test_films_are_found_where_they_lie(source: Path, packed: str) -> None:
    films = sorted(source.rglob("*.png"))
    renamed = {path: source / "images" / f"{path.parent.name}{path.name}" for path in films}
    (source / "images").mkdir()
    table = (source / "films.csv").read_text()
    for path, place in renamed.items():
        path.rename(place)
        table = table.replace(f"{path.parent.name}/{path.name}", f"somewhere/{place.name}")
    (source / "films.csv").write_text(table.replace(".png", "") if packed == "without suffix" else table)
    if packed == "in a zip":
        with zipfile.ZipFile(source / "films.zip", "w") as archive:
            for place in renamed.values():
                archive.write(place, f"deep/{place.name}")
                place.unlink()
    assert run(source).manifest.rows == 6


def test_a_film_that_lies_nowhere_is_rejected(source: Path) -> None:
    (source / "b" / "4.png").unlink()
    dataset = run(source, max_rejected=0.5, split="random")
    assert "b/4.png" not in rows_of(dataset).image_ids
    assert "no image file in" in (dataset.path / "rejected.csv").read_text()


@pytest.mark.parametrize(
    ("change", "settings", "told"),
    [
        (
            ("Patient ID", "Hospital"),
            {"layout": "csv"},
            "named like the patient; it has Path, Hospital",
        ),
        (("a/2.png", "a/1.png"), {}, "lists a/1.png twice, in rows 2 and 3"),
        ((",0,-1,", ",maybe,-1,"), {"findings": "Edema"}, "column Edema has 'maybe' in row 3; expected 1, 0, -1"),
        ((",Edema,", ",Report,"), {"findings": "Comment"}, "column Comment has 'clear' in row 2, 'hazy' in row 3"),
        (("14,s2", ",s2"), {}, "column Patient ID has no patient in 1 rows (4)"),
        (("a/1.png", "../1.png"), {}, "'../1.png' in row 2; expected the place of a film"),
        (("a/1.png", "/etc/1.png"), {}, "expected the place of a film"),
        (
            (",57,train", ",57,training set"),
            {},
            "Split has 'training set' in row 2; expected train, val or",
        ),
        (("Split", "Group"), {}, "has no column of the split; give columns=split=NAME, split=random"),
        ((",test,", ",train,"), {}, "films.csv gives no film to test"),
        (("a/2.png,13,", "a/2.png;13;"), {}, "row 3 has 8 cells, expected 10"),
        (("Edema,Lung Mass", "Edema,Edema"), {}, "has two columns 'Edema'"),
        (("hazy", '"hazy'), {}, "row 9 is not CSV"),
        (("", ""), {"findings": "Hernia"}, "has no column Hernia; it has Path"),
        (("", ""), {"columns": "patient=Hospital"}, "has no such column; it has Path"),
        (("", ""), {"columns": "doctor=Name"}, "'doctor=Name' is not one role and its column"),
        (("", ""), {"table": "other.csv"}, "table=other.csv is no file in"),
        ((ROWS.partition("\n")[2], ""), {}, "has no rows"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(
    source: Path, change: tuple[str, str], settings: dict[str, str], told: str
) -> None:
    (source / "films.csv").write_text(ROWS.replace(*change) if change[0] else ROWS)
    assert told in mistake(source, **settings)


def test_labels_that_are_only_text_are_no_findings(source: Path) -> None:
    (source / "films.csv").write_text(ROWS.replace("Edema,Lung Mass", "Note,Remark").replace(",1,0,", ",a,b,")
                                      .replace(",0,-1,", ",c,d,"))  # fmt: skip
    assert "has no column of labels: none of" in mistake(source)


def test_of_several_tables_one_must_be_named(source: Path) -> None:
    (source / "more.csv").write_text(ROWS)
    assert "has not one table of films (films.csv, more.csv); name it by table=" in mistake(source)
    assert run(source, table="more.csv").manifest.rows == 6


def test_a_damaged_archive_of_a_table_is_told(source: Path) -> None:
    (source / "films.csv").unlink()
    (source / "films.csv.gz").write_bytes(gzip.compress(ROWS.encode())[:-20])
    assert "films.csv.gz cannot be read" in mistake(source, layout="csv")


def test_lists_divide_the_films_of_a_table(source: Path, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a/1.png\na/2.png\nb/1.png\nb/2.png\n")
    (tmp_path / "test.txt").write_text("b/3.png\n")
    lists = {f"{part}_list": str(tmp_path / f"{part}.txt") for part in ("train", "test")}
    dataset = run(source, split="lists", **lists)
    assert dataset.split("test").image_ids.tolist() == ["b/3.png"]
    assert dataset.manifest.splits["val"].patients == 1
