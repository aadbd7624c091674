"""The graph of a model gives what the model itself gives, for the batches that it is made for."""

from __future__ import annotations

import numpy as np
import pytest
from small_classifier import random_films, small_classifier

from radflow.inference.graph import inference_graph


@pytest.mark.parametrize("films", [1, 5])
def test_graph_gives_what_the_model_gives_for_any_number_of_films(films: int):
    model, pixels = small_classifier(), random_films(films)
    np.testing.assert_allclose(inference_graph(model)(pixels), model(pixels, training=False), atol=1e-6)


def test_graph_of_one_batch_takes_no_other():
    graph = inference_graph(small_classifier(), batch=4)
    assert graph(random_films(4)).shape[0] == 4
    with pytest.raises(TypeError):
        graph(random_films(5))
