from __future__ import annotations

import numpy as np

from radflow.inference.heatmaps import draw_heatmap


def test_colour_lies_where_the_evidence_is_and_nowhere_else() -> None:
    film = np.full((80, 160), 100, np.uint8)
    evidence = np.zeros((4, 8))
    evidence[1, 6] = 3.0
    evidence[3, 0] = -5.0  # speaks against the finding
    picture = np.asarray(draw_heatmap(film, evidence, "Mass"))[:80].astype(int)
    coloured = np.ptp(picture, axis=2) > 40
    rows, columns = np.nonzero(coloured)
    assert (rows.mean() // 20, columns.mean() // 20) == (1, 6)
    assert (picture[60:, :40] == 100).all()


def test_a_film_without_evidence_stays_as_it_is() -> None:
    film = np.arange(64 * 64).astype(np.uint8).reshape(64, 64)
    picture = np.asarray(draw_heatmap(film, np.full((2, 2), -1.0), "Mass"))
    np.testing.assert_array_equal(picture[:64], np.repeat(film[..., np.newaxis], 3, axis=2))


def test_large_films_are_shrunk_in_proportion() -> None:
    picture = draw_heatmap(np.zeros((1500, 3000), np.uint8), np.ones((2, 2)), "Mass")
    assert picture.width == 1024
    assert 512 < picture.height < 550
