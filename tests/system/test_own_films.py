"""Films and a table of one's own, with findings that no file could be called by, from the table to predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import REPOSITORY, run_entry_point, runs_of
from sklearn.metrics import roc_auc_score

pytestmark = [pytest.mark.slow, pytest.mark.long]

FINDINGS = {"Nodule/Mass": ("Nodule", "Mass"), "Fluid (pleural)": ("Effusion",), "Enlarged heart": ("Cardiomegaly",)}
KEYS = ("Nodule_Mass", "Fluid _pleural_", "Enlarged heart")


@pytest.fixture
def own_films(workplace: Path, tmp_path: Path) -> pd.DataFrame:
    """A table of the phantoms in tmp_path/own: an eighth of the labels blank, as many -1; parts by patient."""
    release = pd.read_csv(workplace / "films" / "Data_Entry_2017.csv")
    random = np.random.default_rng(0)
    named = release["Finding Labels"].str.split("|").map(set)
    patients = release["Patient ID"]
    table = pd.DataFrame({"file": release["Image Index"], "patient": patients})
    table["split"] = np.select([patients % 4 == 0, patients % 4 == 1], ["test", "val"], "train")
    for finding, kinds in FINDINGS.items():
        told = named.map(lambda names, kinds=kinds: "01"[bool(names & set(kinds))])
        table[finding] = np.where(random.random(len(table)) < 0.125, "", told)
        table.loc[random.random(len(table)) < 0.125, finding] = "-1"
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "images").symlink_to(workplace / "films" / "images")
    table.to_csv(tmp_path / "own" / "films.csv", index=False)
    return table


def test_own_films_and_findings_from_table_to_predictions(own_films: pd.DataFrame, tmp_path: Path) -> None:
    def type_in(entry: str, *flags: str) -> str:
        ended = run_entry_point(tmp_path, entry, *flags)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    policy = tmp_path / "policy.yaml"
    rules = (REPOSITORY / "registry" / "policy.yaml").read_text()
    policy.write_text(rules.replace("minimum_auc: 0.55", "minimum_auc: 0"))
    model = "--model=models:/radflow-other-vgg16@champion"
    type_in("preprocess", "--source=own", "--out=data", "--image_size=32")
    type_in("train", "--data=data", "--arch=vgg16", "--epochs=1", "--bz=16", "--threads=1")
    trained = runs_of(tmp_path)[0].data
    assert "is champion" in type_in("promote", f"--policy={policy}")
    type_in("evaluate", "--data=data", model)
    evaluated = runs_of(tmp_path)[0].data
    type_in("predict", model, "--input=own/images", "--output=predicted.csv", "--heatmaps=maps", "--heatmap_findings=3")
    told = sorted(tmp_path.glob("runs/*/predictions.parquet"))
    for run, predictions in zip((trained, evaluated), told, strict=True):
        films = own_films.merge(pd.read_parquet(predictions), left_on="file", right_on="image_id")
        for finding, key in zip(FINDINGS, KEYS, strict=True):
            judged = films[(films["split_x"] == "test") & films[finding].isin(["0", "1"])]
            expected = roc_auc_score(judged[finding] == "1", judged[f"probability/{finding}"])
            assert run.metrics[f"test/auc/{key}"] == pytest.approx(expected, abs=1e-9)
    predicted = pd.read_csv(tmp_path / "predicted.csv")
    assert set(predicted["film"]) == set(own_films["file"])
    assert predicted[list(FINDINGS)].notna().all(axis=None)
    maps = {path.name for path in (tmp_path / "maps").iterdir()}
    assert maps == {f"{film}.{key}.png" for film in own_films["file"] for key in KEYS}
