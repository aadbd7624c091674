from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_classifier import CALIBRATED, FINDINGS, encoded, random_films, save_small_classifier, small_classifier

from radflow.commands.predict import PredictConfig
from radflow.errors import UserError
from radflow.inference.loaded_model import load_classifier
from radflow.inference.predictor import BATCH, FilmPredictor

# MLflow warns of a type hint of its own when mlflow.pyfunc is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")

FILMS = random_films(BATCH + 5)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> FilmPredictor:
    folder = tmp_path_factory.mktemp("predictor") / "model"
    save_small_classifier(folder)
    return FilmPredictor(load_classifier(str(folder)))


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return np.asarray(small_classifier()(FILMS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The films as PNGs in two folders, two of them damaged."""
    folder = tmp_path_factory.mktemp("films")
    for number, film in enumerate(FILMS):
        path = folder / ("a" if number < 3 else "b") / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"damaged" if number in (1, BATCH + 4) else encoded(film))
    return folder


def test_a_folder_an_array_and_a_list_give_the_same(predictor, folder, expected) -> None:
    table = predictor.predict(folder)
    good = table["error"].isna().to_numpy()
    assert list(table.columns) == ["film", *FINDINGS, *(f"above/{finding}" for finding in FINDINGS), "error", "warning"]
    assert list(table["film"][~good]) == ["a/01.png", f"b/{BATCH + 4}.png"]
    assert table["error"][~good].str.contains("not a PNG, JPEG or DICOM film").all()
    np.testing.assert_allclose(table.loc[good, list(FINDINGS)], expected[good], rtol=1e-5)
    assert table.loc[~good, list(FINDINGS)].isna().all(axis=None)
    np.testing.assert_allclose(predictor.predict(FILMS)[list(FINDINGS)], expected, rtol=1e-5)
    listed = predictor.predict([folder / "b" / "05.png", str(folder / "a" / "00.png")])
    np.testing.assert_allclose(listed[list(FINDINGS)], expected[[5, 0]], rtol=1e-5)


def test_odd_films_are_remarked_upon_and_blank_ones_not_judged(predictor) -> None:
    table = predictor.predict(np.stack([FILMS[0], np.zeros_like(FILMS[0])]))
    assert list(table["warning"].isna()) == [True, False]
    assert list(table[list(FINDINGS)].isna().all(axis=1)) == [False, True]
    assert predictor.predict(np.hstack([FILMS[0], FILMS[0]]))["warning"][0].startswith("64x32 pixels")


def test_flags_are_the_probabilities_against_the_thresholds(predictor, folder, expected) -> None:
    own = predictor.predict(FILMS)
    np.testing.assert_array_equal(own["above/Mass"].astype(bool), expected[:, 0] >= 0.5)
    assert own["above/Nodule"].all()
    assert own["above/Edema"].isna().all()  # no threshold was found for it
    # Between two films, so that rounding moves none across.
    midway = float(np.mean(np.sort(expected[:, 2])[BATCH // 2 : BATCH // 2 + 2]))
    given = predictor.predict(FILMS, thresholds=midway)
    np.testing.assert_array_equal(given["above/Edema"].astype(bool), expected[:, 2] >= midway)
    assert list(predictor.predict(FILMS, thresholds="none").columns) == ["film", *FINDINGS, "error", "warning"]
    damaged = predictor.predict(folder)["above/Nodule"]
    assert list(np.flatnonzero(damaged.isna())) == [1, BATCH + 4]


def test_probabilities_are_calibrated_unless_they_are_to_rank(expected, tmp_path) -> None:
    """logistic(slope * log-odds + offset) by hand; what is above a threshold stays so."""
    save_small_classifier(tmp_path / "model", outputs=CALIBRATED)
    predictor = FilmPredictor(load_classifier(str(tmp_path / "model")))
    shown, own = predictor.predict(FILMS), predictor.predict(FILMS, calibrated=False)
    np.testing.assert_allclose(own[list(FINDINGS)], expected, rtol=1e-5)
    odds = np.log(expected / (1 - expected)) * [2, 1, 0.5] + [0, 1, -1]
    np.testing.assert_allclose(shown[list(FINDINGS)], 1 / (1 + np.exp(-odds)), rtol=1e-4)
    pd.testing.assert_series_equal(shown["above/Mass"], own["above/Mass"])


def test_a_rule_that_the_model_does_not_have_is_one_line(predictor) -> None:
    with pytest.raises(UserError, match="thresholds=specific: the model has those of youden"):
        predictor.predict(FILMS, thresholds="specific")


def test_features_are_what_the_head_weighs(predictor, folder, expected, tmp_path) -> None:
    """The head's own weights on the features give the probabilities; films that cannot be read have no row."""
    predictor.predict(folder, features=tmp_path / "features.parquet", heatmaps=tmp_path / "maps", heatmap_findings=1)
    features = pd.read_parquet(tmp_path / "features.parquet").set_index("film")
    kernel, bias = (np.asarray(weights) for weights in predictor.classifier.model.get_layer("logits").get_weights())
    good = [number for number in range(len(FILMS)) if number not in (1, BATCH + 4)]
    probabilities = 1 / (1 + np.exp(-(features.to_numpy() @ kernel + bias)))
    np.testing.assert_allclose(probabilities, expected[good], rtol=1e-4)
    assert features.index[0] == "a/00.png"
    assert list(features.columns) == [f"feature_{number}" for number in range(kernel.shape[0])]


def test_heat_maps_are_drawn_of_what_is_above_its_threshold(predictor, folder, expected, tmp_path) -> None:
    predictor.predict(folder, heatmaps=tmp_path / "maps")
    drawn = {path.relative_to(tmp_path / "maps").as_posix() for path in (tmp_path / "maps").rglob("*.png")}
    good = [number for number in range(len(FILMS)) if number not in (1, BATCH + 4)]
    names = {number: f"{'a' if number < 3 else 'b'}/{number:02d}.png" for number in good}
    wanted = {f"{name}.Nodule.png" for name in names.values()}
    wanted |= {f"{names[number]}.Mass.png" for number in good if expected[number, 0] >= 0.5}
    assert drawn == wanted


def test_heat_maps_of_the_most_probable(predictor, expected, tmp_path) -> None:
    predictor.predict(FILMS[:3], thresholds="none", heatmaps=tmp_path, heatmap_findings=1)
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert drawn == [f"{number}.{FINDINGS[expected[number].argmax()]}.png" for number in range(3)]
    with Image.open(tmp_path / drawn[0]) as picture:
        assert picture.width == 32


def test_heat_maps_of_listed_films_stay_in_their_folder(predictor, folder, tmp_path) -> None:
    predictor.predict([folder / "a" / "00.png"], heatmaps=tmp_path / "maps", heatmap_findings=1)
    assert [path.is_file() for path in (tmp_path / "maps").rglob("*00.png.*")] == [True]


def test_heat_maps_of_nothing_are_refused(predictor, tmp_path) -> None:
    with pytest.raises(UserError, match="thresholds=none"):
        predictor.predict(FILMS, thresholds="none", heatmaps=tmp_path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"thresholds": "high"}, "thresholds=high"),
        ({"thresholds": "1.5"}, "thresholds=1.5"),
        ({"thresholds": "nan"}, "thresholds=nan"),
        ({"heatmap_findings": 2}, "heatmap_findings=2"),
        ({"heatmap_findings": -1, "heatmaps": "maps"}, "heatmap_findings=-1"),
        ({"output": "table.xlsx"}, "output=table.xlsx"),
        ({"features": "features.csv"}, "features=features.csv"),
    ],
)
def test_settings_that_mean_nothing_are_one_line(settings, says) -> None:
    with pytest.raises(UserError, match=says):
        PredictConfig(**settings)


def test_a_table_survives_its_files(predictor, folder, tmp_path) -> None:
    table = predictor.predict(folder)
    table.to_parquet(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), table, check_dtype=False)


def test_importing_radflow_costs_nothing() -> None:
    program = "import radflow, sys; print({'tensorflow', 'mlflow', 'pandas', 'numpy'} & set(sys.modules), radflow.load)"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.startswith("set()")
