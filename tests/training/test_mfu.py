"""Operations of the published networks, at their published image size."""

from __future__ import annotations

import keras
import pytest

from radflow.training.mfu import training_flops


# Multiplications of a forward pass at 224 px: torchvision's tables for DenseNet-121 and for VGG-16, less dense layers;
# He et al. 2016 (arXiv:1512.03385), table 1, for ResNet-50 with the stride in the first convolution of a block.
@pytest.mark.parametrize(
    ("application", "multiplications"),
    [
        (keras.applications.DenseNet121, 2.83e9),
        (keras.applications.ResNet50, 3.8e9),
        (keras.applications.VGG16, 15.47e9 - 0.12e9),
    ],
)
def test_operations_of_known_networks(application, multiplications):
    body = application(include_top=False, weights=None, input_shape=(224, 224, 3))
    assert training_flops(body) == pytest.approx(3 * 2 * multiplications, rel=0.02)


def test_a_dense_layer_and_a_strided_convolution_by_hand():
    films = keras.Input((8, 8, 2))
    hidden = keras.layers.Conv2D(5, 3, strides=2, padding="same")(films)
    model = keras.Model(films, keras.layers.Dense(7)(keras.layers.GlobalAveragePooling2D()(hidden)))
    assert training_flops(model) == 3 * 2 * (4 * 4 * 3 * 3 * 2 * 5 + 5 * 7)
