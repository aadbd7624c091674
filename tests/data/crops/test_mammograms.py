from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tcia_folder import HEIGHT, WIDTH, TciaFolder, made_film, made_mask, write_dicom

from radflow.data.config import PreprocessConfig
from radflow.data.crops.lesions import CropConfig
from radflow.data.crops.mammograms import crops_of, cut_film
from radflow.data.dataset.frequencies import frequency_table
from radflow.data.dataset.reading import Dataset, verify_dataset
from radflow.data.dataset.splits import prove_no_lesion_crosses, prove_no_patient_crosses
from radflow.data.preprocess import preprocess
from radflow.data.readers.cbis_ddsm import CbisDdsm
from radflow.errors import UserError

CROPS = CropConfig(crop_size=48)
BOXES = ((60, 20, 30, 20), (110, 12, 10, 12))
TRAIN = [f"Mass-Training_P_{number:05d}_{side}_{view}" for number in range(1, 7)
         for side, view in (("LEFT", "CC"), ("LEFT", "MLO"))]  # fmt: skip
TEST = [f"Calc-Test_P_{number:05d}_RIGHT_CC" for number in (21, 22)]
CROSSING = "Calc-Training_P_00021_LEFT_CC"
"""a train film of a patient who is in the test part"""


@pytest.fixture
def source(tmp_path: Path) -> TciaFolder:
    """Fourteen films with one or two lesions, and one of a patient on both sides."""
    tree = TciaFolder(tmp_path / "cbis")
    for place, name in enumerate([*TRAIN, *TEST, CROSSING]):
        tree.add_film(name, BOXES[: 1 + place % 2])
    return tree


def run(source: Path, out: Path, **settings: object) -> Dataset:
    given = {"image_size": 32, "workers": 1, "crops": CROPS, **settings}
    return preprocess(PreprocessConfig(source=str(source), out=str(out), **given))


def rejected(dataset: Dataset) -> dict[str, str]:
    with (dataset.path / "rejected.csv").open(newline="") as file:
        return {line["image_id"]: line["reason"] for line in csv.DictReader(file)}


def lesions(dataset: Dataset) -> dict[str, dict[str, str]]:
    with (dataset.path / "lesions.csv").open(newline="") as file:
        return {f"{line['film']}:lesion{line['lesion']}": line for line in csv.DictReader(file)}


def columns(dataset: Dataset) -> dict[str, np.ndarray]:
    splits = {name: dataset.split(name) for name, counts in dataset.manifest.splits.items() if counts.rows}
    return {
        "image_ids": np.concatenate([split.image_ids for split in splits.values()]),
        "patient_ids": np.concatenate([split.patient_ids for split in splits.values()]),
        "film_ids": np.concatenate([split.table.film_ids for split in splits.values()]),
        "lesion_ids": np.concatenate([split.table.lesion_ids for split in splits.values()]),
        "splits": np.repeat(list(splits), [len(split) for split in splits.values()]),
        "labels": np.concatenate([split.labels for split in splits.values()])[:, 0],
        "films": np.concatenate([split.gather(np.arange(len(split))) for split in splits.values()]),
    }


def test_tumours_are_told_from_normal_tissue(source: TciaFolder, tmp_path: Path) -> None:
    dataset = run(source.write_csvs(), tmp_path / "out")
    assert (dataset.name, dataset.findings, dataset.image_size) == ("cbis_ddsm", ("Tumour",), 32)
    made = columns(dataset)
    shown = made["lesion_ids"] != ""
    assert shown.tolist() == made["labels"].tolist()
    for image_id, film_id, lesion_id in zip(made["image_ids"], made["film_ids"], made["lesion_ids"], strict=True):
        assert image_id.startswith(f"{lesion_id}:crop" if lesion_id else f"{film_id}:normal:crop")
        assert film_id in (*TRAIN, *TEST)
    for shows_tumour, film in zip(shown, made["films"], strict=True):
        # The lesions are the only white pixels of the made films.
        assert (film > 240).any() == shows_tumour
        assert shows_tumour or (film > 50).mean() > 0.4
    assert (made["labels"].sum(), (~made["labels"]).sum()) == (3 * (len(TRAIN) + len(TEST)) * 3 // 2, 3 * 14)


def test_no_patient_and_no_lesion_crosses_a_split(source: TciaFolder, tmp_path: Path) -> None:
    for split in ("official", "random"):
        made = columns(run(source.write_csvs(), tmp_path / split, split=split, val_fraction=0.3))
        prove_no_patient_crosses(made["patient_ids"], made["splits"])
        prove_no_lesion_crosses(made["lesion_ids"], made["splits"])
        assert set(made["splits"].tolist()) == {"train", "val", "test"}


def test_the_official_test_part_is_whole_and_its_patients_are_nowhere_else(source: TciaFolder, tmp_path: Path) -> None:
    dataset = run(source.write_csvs(), tmp_path / "out")
    assert set(dataset.split("test").table.film_ids.tolist()) == set(TEST)
    assert rejected(dataset) == {
        f"{CROSSING}:lesion1": "in the train part, but patient P_00021 is in the test part too"
    }
    assert (dataset.manifest.rejected, dataset.manifest.unlisted) == (0, 1)
    at_random = columns(run(source.write_csvs(), tmp_path / "random", split="random"))
    assert any(image_id.startswith(CROSSING) for image_id in at_random["image_ids"])


def test_every_lesion_is_accounted_for(source: TciaFolder, tmp_path: Path) -> None:
    """Swapped, resized, misshapen, missing, empty, large and small: each is in the dataset or listed with a reason."""
    odd = "Mass-Training_P_00031_RIGHT_CC"
    pixels = made_film(1, (BOXES[0],))
    source.add_film(odd, (), film=pixels)
    source.add_lesion(odd, 1, made_mask(BOXES[0]), pixels, swapped=True)
    source.add_lesion(odd, 2, made_mask((30, 15, 10, 10), (HEIGHT // 2, WIDTH // 2)), pixels)
    source.add_lesion(odd, 3, made_mask((0, 0, 5, 5), (HEIGHT, HEIGHT)), pixels)
    source.add_row(odd, 4)
    source.add_row("Mass-Training_P_00032_RIGHT_CC", 1, "BENIGN_WITHOUT_CALLBACK")
    torn = "Mass-Training_P_00033_RIGHT_CC"
    source.add_film(torn, BOXES)
    (path,) = (source.folder / torn).rglob("*.dcm")
    path.write_bytes(path.read_bytes()[:2000])
    huge = "Mass-Training_P_00034_RIGHT_CC"
    source.add_film(huge, ((20, 5, 110, 80),))
    small = "Mass-Training_P_00035_RIGHT_CC"
    source.add_film(small, (), film=pixels[60:90, 20:50])
    source.add_lesion(small, 1, made_mask((5, 5, 10, 10), (30, 30)), pixels)
    dataset = run(source.write_csvs(), tmp_path / "out", max_rejected=0.5)
    listed = rejected(dataset)
    in_dataset = set(columns(dataset)["image_ids"].tolist())
    films = CbisDdsm.at(source.folder).read_films()
    accounts = lesions(dataset)
    assert set(accounts) == {f"{film.name}:lesion{lesion.name}" for film in films for lesion in film.lesions}
    for name, account in accounts.items():
        in_it = [image_id for image_id in in_dataset if image_id.startswith(f"{name}:")]
        assert int(account["crops"]) == len(in_it)
        assert (account["split"] == "") == (account["reason"] != "") == (not in_it)
    assert accounts[f"{odd}:lesion4"]["reason"].startswith("no folder")
    assert accounts[f"{CROSSING}:lesion1"]["reason"].startswith("in the train part, but patient P_00021")
    assert accounts["Mass-Training_P_00032_RIGHT_CC:lesion1"]["pathology"] == "benign_without_callback"
    wanted = {str(name) for film in films if film.name != CROSSING for name in crops_of(film, CROPS)}
    assert in_dataset | set(listed) == wanted | {f"{CROSSING}:lesion1"}
    assert not in_dataset & set(listed)
    assert {f"{odd}:lesion{lesion}:crop2" for lesion in (1, 2)} | {f"{huge}:lesion1:crop0"} <= in_dataset
    assert {f"{small}:lesion1:crop0"} <= in_dataset
    assert listed[f"{odd}:lesion3:crop0"].startswith(f"no mask in {odd}_3 for a film of 120x160 pixels")
    assert listed[f"{odd}:lesion4:crop0"].startswith("no folder")
    assert listed[f"{odd}:normal:crop0"] == (
        "normal tissue cannot be told: lesion3, lesion4 of the film has no location"
    )
    assert listed["Mass-Training_P_00032_RIGHT_CC:lesion1:crop1"].startswith("no folder")
    assert listed[f"{torn}:lesion2:crop2"].startswith("damaged DICOM")
    assert listed[f"{huge}:normal:crop0"] == "no room for another crop of normal tissue of 48 pixels"
    # Damaged and missing ones count as rejected, want of room and of certainty does not.
    assert dataset.manifest.rejected == 3 * (2 + 1 + 2) + 3 * 2
    with pytest.raises(UserError, match=r"max_rejected=0\.01 allows"):
        run(source.folder, tmp_path / "strict")
    assert verify_dataset(dataset.path).digest == dataset.digest


def test_normal_tissue_avoids_the_lesions_of_the_other_film_of_a_view(tmp_path: Path) -> None:
    """The calcification film does not list the mass, but shows it."""
    tree = TciaFolder(tmp_path)
    mass, calcification = (f"{kind}-Training_P_00001_LEFT_CC" for kind in ("Mass", "Calc"))
    pixels = made_film(3, BOXES)
    tree.add_film(mass, (), film=pixels)
    tree.add_lesion(mass, 1, made_mask(BOXES[0]), pixels)
    tree.add_film(calcification, (), film=pixels)
    tree.add_lesion(calcification, 1, made_mask(BOXES[1]), pixels)
    many = CropConfig(crop_size=40, negatives_per_film=20)
    for film in CbisDdsm.at(tree.write_csvs()).read_films():
        cut = [crop for name, crop in cut_film(film, many, 40, seed=0) if ":normal:" in name]
        crops = [crop for crop in cut if isinstance(crop, np.ndarray)]
        assert crops
        assert all(crop.max() < 240 for crop in crops)


def test_the_pathology_of_each_crop_is_kept(tmp_path: Path) -> None:
    tree = TciaFolder(tmp_path / "cbis")
    for name in (*TRAIN, *TEST):
        tree.add_film(name, BOXES[:1])
    csv_file = tree.write_csvs() / "mass_case_description_train_set.csv"
    csv_file.write_text(csv_file.read_text().replace("mass,MALIGNANT", "mass,BENIGN", 1))
    dataset = run(tree.folder, tmp_path / "out")
    for split in ("train", "val", "test"):
        part = dataset.split(split)
        for image_id, pathology in zip(part.image_ids.tolist(), part.pathologies.tolist(), strict=True):
            of_lesion = "benign" if image_id.startswith(TRAIN[0]) else "malignant"
            assert pathology == ("normal" if ":normal:" in image_id else of_lesion)
    assert Counter(account["pathology"] for account in lesions(dataset).values()) == {"benign": 1, "malignant": 13}


def test_the_published_csvs_with_a_few_of_their_films(tmp_path: Path, real_data: Path) -> None:
    """Each of the 3,568 lesions is accounted for: in the dataset, missing, or of a patient who is in both parts."""
    source = tmp_path / "cbis"
    shutil.copytree(real_data / "mammo" / "cbis_ddsm" / "csv", source)
    tree = TciaFolder(source)
    films = CbisDdsm.at(source).read_films()
    for film in films[::100]:
        write_dicom(source / film.name / "1.3.6" / "1-1.dcm", made_film(1, BOXES[:1]))
        for lesion in film.lesions:
            tree.write_lesion(film.name, int(lesion.name), made_mask(BOXES[0]), made_film(1), len(film.lesions) > 1)
    dataset = run(source, tmp_path / "out", max_rejected=1)
    accounts = lesions(dataset)
    assert len(accounts) == 3568
    reasons = Counter(account["reason"].partition(" ")[0] for account in accounts.values())
    in_both_parts = reasons.pop("in")
    assert in_both_parts == 83
    there = {f"{film.name}:lesion{lesion.name}" for film in films[::100] for lesion in film.lesions}
    assert {name for name, account in accounts.items() if account["split"]} <= there
    assert reasons[""] == len([name for name in there if not accounts[name]["reason"].startswith("in the train")])
    assert reasons == {"": reasons[""], "no": 3568 - 83 - reasons[""]}
    pathologies = Counter(account["pathology"] for account in accounts.values())
    assert pathologies == {"malignant": 1457, "benign": 1429, "benign_without_callback": 682}


def test_crops_depend_on_seed_and_name_alone(source: TciaFolder) -> None:
    film, *_ = CbisDdsm.at(source.write_csvs()).read_films()
    few = dict(cut_film(film, CROPS, 32, seed=0))
    more = dict(cut_film(film, CropConfig(crop_size=48, crops_per_lesion=5), 32, seed=0))
    other = dict(cut_film(film, CROPS, 32, seed=1))
    assert all(np.array_equal(more[name], crop) for name, crop in few.items())
    assert not any(np.array_equal(other[name], crop) for name, crop in few.items())
    assert len({crop.tobytes() for crop in more.values()}) == len(more)


def test_any_number_of_workers_and_any_place_of_the_source_give_the_same_bytes(
    source: TciaFolder, tmp_path: Path
) -> None:
    source.add_row("Mass-Training_P_00032_RIGHT_CC", 1)
    one = run(source.write_csvs(), tmp_path / "one", max_rejected=0.1)
    elsewhere = shutil.copytree(source.folder, tmp_path / "elsewhere")
    two = run(elsewhere, tmp_path / "two", workers=2, max_rejected=0.1)
    assert one.manifest.rejected == 3 + 3
    for path in one.path.iterdir():
        assert path.read_bytes() == (two.path / path.name).read_bytes()


def test_image_size_and_rule_of_mammograms(source: TciaFolder, tmp_path: Path) -> None:
    dataset = run(source.write_csvs(), tmp_path / "out", image_size=0)
    assert dataset.image_size == 299
    assert dataset.manifest.crops == {
        "crop_size": 48,
        "crop_padding": 0.1,
        "crops_per_lesion": 3,
        "negatives_per_film": 3,
    }
    assert (dataset.manifest.split_rule.rule, dataset.manifest.split_rule.test_fraction) == ("official", None)
    assert set(dataset.manifest.sources) == {f"{name}_case_description_{part}_set.csv" for name, part in
                                             (("mass", "train"), ("calc", "train"), ("calc", "test"))}  # fmt: skip


def test_frequency_table_of_one_finding(source: TciaFolder, tmp_path: Path) -> None:
    table = frequency_table(run(source.write_csvs(), tmp_path / "out")).set_index("Disease")
    assert table.index.tolist() == ["Tumour", "No Findings", "Totals"]
    assert table["Images"].tolist() == [63, 42, 105]
    assert table["Percentage"].tolist() == [60.0, 40.0, 100.0]


def test_a_source_without_a_test_csv_is_one_line(tmp_path: Path) -> None:
    tree = TciaFolder(tmp_path)
    for name in TRAIN:
        tree.add_film(name, BOXES)
    with pytest.raises(UserError, match="has no CSV of the test part; put it there, or use split=random"):
        run(tree.write_csvs(), tmp_path / "out")
    assert run(tree.folder, tmp_path / "out", split="random").manifest.rows


def test_real_mini_mias_films(real_data: Path, tmp_path: Path) -> None:
    mias = real_data / "mammo" / "mias"
    (tmp_path / "mias").mkdir()
    (tmp_path / "mias" / "images").symlink_to(mias / "images")
    lines = (mias / "labels.csv").read_text().splitlines()
    kept = [line for line in lines[1:] if line[7:13] in ("mdb003", "mdb004", "mdb005", "mdb023", "mdb028", "mdb059")]
    (tmp_path / "mias" / "labels.csv").write_text("\n".join([lines[0], *kept]))
    dataset = run(tmp_path / "mias", tmp_path / "out", crops=CropConfig(crop_size=150))
    assert (dataset.name, dataset.manifest.split_rule.rule) == ("mini_mias", "random")
    listed = rejected(dataset)
    assert listed["mdb059:lesion1"] == "the release does not give its location"
    assert listed["mdb059:normal:crop0"].startswith("normal tissue cannot be told")
    assert dataset.manifest.rejected == 0
    made = columns(dataset)
    assert set(made["film_ids"].tolist()) == {"mdb003", "mdb004", "mdb005", "mdb023", "mdb028"}
    assert 60 < made["films"].mean() < 200


def test_a_folder_without_any_list_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no label file in .*, expected one of Data_Entry_2017\*\.csv \(ChestX-ray14\)"
    ):
        run(tmp_path, tmp_path / "out")
    write_dicom(tmp_path / "film.dcm", made_film())
    with pytest.raises(UserError, match="none of mass_case_description_train_set"):
        run(tmp_path, tmp_path / "out", layout="cbis_ddsm")
