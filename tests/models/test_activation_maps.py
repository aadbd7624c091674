from __future__ import annotations

import keras
import numpy as np
import pytest

from radflow.models.activation_maps import with_activation_maps
from radflow.models.classifier import average_of_snapshots, build_classifier
from radflow.models.config import ModelConfig

FILMS = np.random.default_rng(0).integers(0, 256, (2, 64, 64), np.uint8)


def classifier(seed: int = 0) -> keras.Model:
    """A VGG-16 of 3 findings whose head is not that of its start, all zeros."""
    model = build_classifier(ModelConfig(arch="vgg16"), "float32", 64, np.full(3, 0.2), seed)
    model.get_layer("logits").kernel.assign(np.random.default_rng(seed).normal(0, 0.05, (512, 3)))
    return model


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    return np.log(probabilities / (1 - probabilities))


def test_a_map_adds_up_to_its_logit(tmp_path) -> None:
    """As Zhou et al. define it; also after the model was saved and loaded."""
    model = classifier()
    model.save(tmp_path / "model.keras")
    probabilities, maps = with_activation_maps(keras.saving.load_model(tmp_path / "model.keras"))(FILMS)
    assert maps.shape == (2, 2, 2, 3)
    np.testing.assert_allclose(probabilities, model(FILMS), rtol=1e-5)
    logits = np.mean(maps, axis=(1, 2)) + np.asarray(model.get_layer("logits").bias)
    np.testing.assert_allclose(logits, log_odds(np.asarray(model(FILMS))), rtol=1e-4, atol=1e-5)


def test_an_ensemble_has_the_mean_of_its_members_maps(tmp_path) -> None:
    members = [classifier(seed) for seed in (1, 2)]
    ensemble = average_of_snapshots(classifier(), [member.get_weights() for member in members])
    ensemble.save(tmp_path / "model.keras")
    probabilities, maps = with_activation_maps(keras.saving.load_model(tmp_path / "model.keras"))(FILMS)
    np.testing.assert_allclose(probabilities, np.mean([member(FILMS) for member in members], axis=0), rtol=1e-5)
    of_members = [np.asarray(with_activation_maps(member)(FILMS)[1]) for member in members]
    np.testing.assert_allclose(maps, np.mean(of_members, axis=0), rtol=1e-4, atol=1e-5)


def test_a_model_with_another_head_is_refused() -> None:
    films = keras.Input((8, 8), dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(films))
    with pytest.raises(ValueError, match="global average pooling"):
        with_activation_maps(keras.Model(films, keras.layers.Dense(2, activation="sigmoid")(flat)))
