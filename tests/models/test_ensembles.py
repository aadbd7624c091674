from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from small_classifier import FINDINGS, random_films, small_classifier

from radflow.models.classifier import average_of_members

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

FILMS = random_films(3)


@pytest.mark.parametrize("mirrored", [False, True])
def test_probabilities_are_the_means_and_survive_a_file(mirrored: bool, tmp_path: Path) -> None:
    members = [small_classifier(seed) for seed in (1, 2)]
    views = [FILMS, FILMS[:, :, ::-1]] if mirrored else [FILMS]
    expected = np.mean([np.asarray(member(view)) for member in members for view in views], axis=0)
    model = average_of_members(members, "radflow_small", mirrored)
    np.testing.assert_allclose(np.asarray(model(FILMS)), expected, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(np.asarray(loaded(FILMS)), expected, rtol=1e-5)
    assert loaded.output_shape == (None, len(FINDINGS))


def test_one_model_mirrored_judges_both_sides_alike() -> None:
    model = average_of_members([small_classifier(1)], "radflow_small", mirrored=True)
    np.testing.assert_allclose(np.asarray(model(FILMS)), np.asarray(model(FILMS[:, :, ::-1])), rtol=1e-5)
