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


def test_evidence_in_a_padded_square_is_drawn_where_it_lies_on_the_film() -> None:
    film = np.full((80, 160), 100, np.uint8)  # rows 2 to 5 of 8 of the square, and all columns
    evidence = np.zeros((8, 8))
    evidence[3, 6] = 3.0
    evidence[0, 0] = 2.0  # on the black above the film
    picture = np.asarray(draw_heatmap(film, evidence, "Mass", "pad"))[:80].astype(int)
    rows, columns = np.nonzero(np.ptp(picture, axis=2) > 40)
    assert (rows.mean() // 20, columns.mean() // 20) == (1, 6)
    assert (picture[:20, :60] == 100).all()


def test_of_a_mammogram_the_breast_is_drawn_as_it_was_seen() -> None:
    film = np.full((160, 160), 3, np.uint8)
    film[40:120, 96:] = 90  # a breast whose chest wall is at the right, half as wide as a square around it
    film[60:100, 80:96] = 90
    evidence = np.zeros((8, 8))
    evidence[1, 0] = 3.0
    picture = np.asarray(draw_heatmap(film, evidence, "Malignant", "breast"))[:80].astype(int)
    assert picture.shape[1] == 80
    rows, columns = np.nonzero(np.ptp(picture, axis=2) > 40)
    assert (rows.mean() // 10, columns.mean() // 10) == (1, 0)


def test_a_map_of_a_single_place_colours_nothing() -> None:
    film = np.arange(64 * 64).astype(np.uint8).reshape(64, 64)
    picture = np.asarray(draw_heatmap(film, np.full((1, 1), 3.0), "Mass"))
    np.testing.assert_array_equal(picture[:64], np.repeat(film[..., np.newaxis], 3, axis=2))
