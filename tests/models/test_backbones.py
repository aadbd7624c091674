"""A backbone is one entry of the table: settings, network, rule and families of models follow from it."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from radflow.cluster.batch_plan import BatchSchedule, plan_batches
from radflow.commands import settings_of
from radflow.config import flatten, parse
from radflow.errors import UserError
from radflow.models.backbones import ARCHITECTURES, Architecture, ChannelScaling
from radflow.models.classifier import build_classifier
from radflow.models.config import ModelConfig
from radflow.promotion.policy import read_policy
from radflow.training.config import TrainConfig
from radflow.training.plan import TrainingFilms, make_plan
from radflow.training.recipe import resolve

MOBILENET = Architecture("MobileNetV2", "batch", ChannelScaling((1 / 127.5,) * 3, (-1.0,) * 3), 32)


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another backbone of keras.applications, which Keras trains on pixels from -1 to 1."""
    monkeypatch.setitem(ARCHITECTURES, "mobilenetv2", MOBILENET)


@pytest.mark.usefixtures("added")
def test_an_added_backbone_computes_what_keras_applications_computes(tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    reference = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg")
    reference.save_weights(tmp_path / "body.weights.h5")
    config = ModelConfig(arch="mobilenetv2", weights=str(tmp_path / "body.weights.h5"))
    classifier = build_classifier(config, "float32", 64, np.full(3, 0.2), seed=0)
    grey = np.random.default_rng(0).integers(0, 256, (2, 64, 64), np.uint8)
    colour = np.repeat(grey[..., np.newaxis], 3, axis=-1).astype(np.float32)
    expected = reference(keras.applications.mobilenet_v2.preprocess_input(colour), training=False)
    features = keras.Model(classifier.input, classifier.get_layer("pool").output)(grey, training=False)
    np.testing.assert_allclose(features, expected, rtol=2e-3, atol=2e-4)


@pytest.mark.usefixtures("added")
def test_the_rule_treats_an_added_backbone_as_its_normalisation_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "vgg19", Architecture("VGG19", "none", MOBILENET.scaling, 32))
    batches = BatchSchedule(plan_batches(448, 16, 1, 8237))
    for added, known in (("mobilenetv2", "densenet121"), ("vgg19", "vgg16")):
        recipes = [resolve(TrainConfig(model=ModelConfig(arch=arch)), batches) for arch in (added, known)]
        assert recipes[0] == recipes[1]
    with pytest.raises(UserError, match="norm=batch given for vgg19"):
        ModelConfig(arch="vgg19", norm="batch")
    with pytest.raises(UserError, match="norm=none given for mobilenetv2"):
        ModelConfig(arch="mobilenetv2", norm="none")


@pytest.mark.usefixtures("added")
def test_an_added_backbone_may_have_a_family(tmp_path: Path) -> None:
    published = Path(__file__).parents[2] / "registry" / "policy.yaml"
    policy = tmp_path / "policy.yaml"
    policy.write_text(published.read_text() + "  radflow-mammo-mobilenetv2: {}\n")
    assert [family.arch for family in read_policy(policy)][-1] == "mobilenetv2"


@pytest.mark.parametrize("entry", ["train", "distributed", "search", "promote"])
def test_the_command_line_takes_and_lists_the_table(entry: str) -> None:
    for arch in ARCHITECTURES:
        assert flatten(parse(settings_of(entry), [f"--arch={arch}"]))["arch"] == arch
    with pytest.raises(UserError, match=".*".join(("unheard", *ARCHITECTURES))):
        parse(settings_of(entry), ["--arch=unheard"])


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_images_below_the_smallest_are_those_that_keras_refuses(arch: str) -> None:
    size = ARCHITECTURES[arch].smallest_image - 1
    with pytest.raises(ValueError, match="Input size must be at least"):
        getattr(keras.applications, ARCHITECTURES[arch].application)(
            include_top=False, weights=None, input_shape=(size, size, 3)
        )
    with pytest.raises(UserError, match=f"arch={arch} does not take {size} px images; it takes those of {size + 1} px"):
        make_plan(TrainConfig(model=ModelConfig(arch=arch)), TrainingFilms("small", size, 64), 16, 16, ranks=1)
