from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from radflow.cluster.batch_plan import epoch_order, micro_batches, plan_batches
from radflow.data.augmentation import Augmentation, AugmentationConfig
from radflow.data.batches import gather_ahead
from radflow.data.dataset.manifest import SplitRule
from radflow.data.dataset.reading import Split, open_dataset
from radflow.data.dataset.shards import FilmTable
from radflow.data.dataset.writing import DatasetHeader, write_dataset
from radflow.errors import UserError

SIZE = 64
SAMPLES = np.arange(200)


def augmentation(seed: int = 0, **strengths: float) -> Augmentation:
    still = {"augment_crop": 0.0, "augment_rotation": 0.0, "augment_brightness": 0.0}
    return Augmentation(AugmentationConfig(augment=True, **{**still, **strengths}), seed)


def sources(changes: Augmentation, epoch: int = 0) -> np.ndarray:
    """Where in the film each pixel comes from, [samples, (x, y), H, W]: seen from films that are ramps of grey."""
    ramp = np.tile(np.arange(0, 4 * SIZE, 4, dtype=np.uint8), (len(SAMPLES), SIZE, 1))
    along_x, along_y = (changes.apply(films, SAMPLES, epoch) for films in (ramp, ramp.transpose(0, 2, 1)))
    return np.stack([along_x, along_y], axis=1) / 4


def axes_of_windows(places: np.ndarray) -> np.ndarray:
    """The step of a window from one pixel to the next to the right, as complex numbers x + iy, [samples]."""
    inner = places[:, :, :, 16:-16]  # an edge that is repeated has no slope
    step = (inner[..., -1] - inner[..., 0])[:, :, 16:-16].mean(axis=2) / (inner.shape[-1] - 1)
    return step[:, 0] + 1j * step[:, 1]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """29 films of noise."""
    folder, films = tmp_path_factory.mktemp("data") / "made", 29
    names = np.array([f"{film}.png" for film in range(films)])
    table = FilmTable(names, names, np.full(films, "PA"), np.full(films, "train"), np.ones((films, 1), bool))
    header = DatasetHeader(name="made", image_size=32, findings=("Mass",), split_rule=SplitRule("random", 0, 0.1, 0.1))
    noise = np.random.default_rng(0).integers(0, 256, (films, 32, 32), dtype=np.uint8)
    with write_dataset(folder, header, table) as writer:
        for row, film in enumerate(noise):
            writer.put(row, film)
    return open_dataset(folder).split("train")


def pixels_of_an_epoch(train: Split, ranks: int, local_batch: int, epoch: int = 3) -> dict[int, bytes]:
    """The pixels that each film of an epoch is trained on."""
    plan = plan_batches(12, local_batch, ranks, len(train))
    order = epoch_order(plan.films, 5, epoch)
    augment = partial(Augmentation(AugmentationConfig(augment=True, augment_flip=True), 5).apply, epoch=epoch)
    seen = {}
    for rank in range(ranks):
        selections = [
            chosen for step in range(plan.steps_per_epoch) for chosen in micro_batches(plan, order, step, rank)
        ]
        for chosen, batch in zip(selections, gather_ahead(train, selections, augment), strict=True):
            assert np.array_equal(batch.weights, chosen.weights)
            places = zip(chosen.indices.tolist(), chosen.weights, batch.films, strict=True)
            seen |= {film: pixels.tobytes() for film, weight, pixels in places if weight}
    assert seen.keys() == set(range(len(train)))
    return seen


def test_pixels_do_not_depend_on_ranks_and_micro_steps(train: Split) -> None:
    alone = pixels_of_an_epoch(train, ranks=1, local_batch=12)
    for ranks, local_batch in ((1, 3), (2, 6), (3, 2), (4, 3), (12, 1)):
        assert pixels_of_an_epoch(train, ranks, local_batch) == alone
    next_epoch = pixels_of_an_epoch(train, ranks=1, local_batch=12, epoch=4)
    assert all(next_epoch[film] != pixels for film, pixels in alone.items())


def test_off_is_the_film_itself(train: Split) -> None:
    films = train.gather(np.arange(29))
    assert np.array_equal(Augmentation(AugmentationConfig(), 0).apply(films, np.arange(29), 0), films)
    assert np.array_equal(augmentation().apply(films, np.arange(29), 0), films)


def test_crops_lie_in_the_film_and_differ_in_size_and_place() -> None:
    places = sources(augmentation(augment_crop=0.25))
    sides = axes_of_windows(places)
    assert np.abs(sides.imag).max() < 0.01
    assert 0.74 < sides.real.min() < 0.77
    assert 0.98 < sides.real.max() < 1.01
    edges = places[:, 0, 0, :]
    assert edges[:, 0].min() < 0.5
    assert edges[:, 0].max() > 0.2 * SIZE
    assert edges[:, -1].max() > SIZE - 1.5


def test_turns_are_about_the_centre_to_both_sides() -> None:
    places = sources(augmentation(augment_rotation=20))
    axes = axes_of_windows(places)
    np.testing.assert_allclose(np.abs(axes), 1, atol=0.02)
    angles = np.degrees(np.angle(axes))
    assert -20.5 < angles.min() < -18
    assert 18 < angles.max() < 20.5
    middle = places[:, :, SIZE // 2 - 1 : SIZE // 2 + 1, SIZE // 2 - 1 : SIZE // 2 + 1].mean(axis=(2, 3))
    np.testing.assert_allclose(middle, (SIZE - 1) / 2, atol=0.2)


def test_what_a_turned_film_does_not_show_repeats_its_edge() -> None:
    grey = np.full((len(SAMPLES), SIZE, SIZE), 90, np.uint8)
    assert (augmentation(augment_rotation=45, augment_crop=0.1).apply(grey, SAMPLES, 0) == 90).all()


def test_films_are_mirrored_only_if_asked_and_then_every_second_one() -> None:
    assert (axes_of_windows(sources(augmentation(augment_rotation=5, augment_crop=0.1))).real > 0).all()
    mirrored = axes_of_windows(sources(augmentation(augment_flip=1))).real
    np.testing.assert_allclose(np.abs(mirrored), 1, atol=0.01)
    assert 0.35 < (mirrored < 0).mean() < 0.65


def test_brightness_is_a_factor_and_white_stays_white() -> None:
    films = np.repeat(np.array([0, 100, 255], np.uint8), SIZE * SIZE).reshape(3, 1, SIZE, SIZE)
    changes = augmentation(augment_brightness=0.2)
    black, grey, white = (changes.apply(np.repeat(film, 200, axis=0), SAMPLES, 0)[:, 0, 0] for film in films)
    assert (black == 0).all()
    assert 80 <= grey.min() < 83
    assert 117 < grey.max() <= 120
    assert np.abs(white - np.minimum(255, 2.55 * grey)).max() <= 1.8  # grey is rounded before it is taken 2.55 times


def test_seed_epoch_and_film_each_change_what_is_drawn() -> None:
    strengths = {"augment_crop": 0.1, "augment_rotation": 5.0}
    first = sources(augmentation(**strengths))
    assert len({places.tobytes() for places in first}) == len(SAMPLES)
    assert not np.array_equal(first, sources(augmentation(**strengths), epoch=1))
    assert not np.array_equal(first, sources(augmentation(seed=1, **strengths)))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"augment_crop": 0.6}, r"augment_crop=0.6 is out of range: expected 0 to 0.5"),
        ({"augment_rotation": float("nan")}, "augment_rotation=nan"),
        ({"augment_brightness": -0.1}, "augment_brightness=-0.1"),
        ({"augment_rotation": 10.0}, "augment_rotation does nothing while augment=false"),
        ({"augment_flip": True}, "augment_flip does nothing while augment=false"),
    ],
)
def test_settings_that_are_wrong_or_in_vain_are_one_line(setting: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AugmentationConfig(**setting)
