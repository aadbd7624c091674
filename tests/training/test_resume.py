"""A training that was interrupted anywhere and resumed ends as one that was not."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radflow.cluster.batch_plan import BatchPlan, BatchSchedule
from radflow.cluster.communicator import SerialCommunicator
from radflow.data.dataset.shards import FilmTable
from radflow.errors import JobError, UserError
from radflow.optim.config import OptimizerConfig
from radflow.optim.learning_rate import LearningRate
from radflow.tracking.run import SilentRun
from radflow.training.checkpoint import CheckpointFolder, Checkpoints, NoCheckpoints
from radflow.training.config import TrainConfig
from radflow.training.loop import Reporting, fit
from radflow.training.loss import Loss, build_loss
from radflow.training.loss_config import LossConfig
from radflow.training.progress import SilentProgress
from radflow.training.state import TrainingState

SIZE, FILMS, EPOCHS = 8, 22, 3
PLAN = BatchPlan(global_batch=8, ranks=1, local_batch=4, micro_steps=2, films=FILMS)
BATCHES = BatchSchedule(PLAN)
SMALL = BatchPlan(global_batch=4, ranks=1, local_batch=4, micro_steps=1, films=FILMS)


class Films:
    """A split of random films in memory."""

    def __init__(self, name: str, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.name = name
        self.pixels = generator.integers(0, 256, (FILMS, SIZE, SIZE), np.uint8)
        self.labels = generator.random((FILMS, 2)) < 0.4
        names = np.array([f"{name}{number}.png" for number in range(FILMS)])
        views, splits = np.full(FILMS, "PA"), np.full(FILMS, name)
        self.table = FilmTable(names, np.arange(FILMS).astype(str), views, splits, self.labels)

    def __len__(self) -> int:
        return FILMS

    def gather(self, indices: np.ndarray) -> np.ndarray:
        return self.pixels[indices]


SPLITS = {"train": Films("train", 0), "val": Films("val", 1)}
DATASET = SimpleNamespace(split=SPLITS.__getitem__, findings=("Mass", "Edema"))


class InterruptingProgress(SilentProgress):
    """A signal that comes after so many steps."""

    def __init__(self, steps: int) -> None:
        self.steps_left = steps

    def advance(self, films: int, loss: float) -> None:
        self.steps_left -= 1
        if self.steps_left < 0:
            raise KeyboardInterrupt

    def end_epoch(self, summary: str) -> None:
        self.advance(0, 0.0)


def new_state(optim: OptimizerConfig, batches: BatchSchedule = BATCHES) -> TrainingState:
    keras.utils.set_random_seed(0)
    films = keras.Input((SIZE, SIZE), dtype="uint8")
    hidden = keras.layers.Rescaling(1 / 255)(keras.layers.Reshape((SIZE, SIZE, 1))(films))
    hidden = keras.layers.BatchNormalization(momentum=0.9)(keras.layers.Conv2D(4, 3)(hidden))
    logits = keras.layers.Dense(2, name="logits")(keras.layers.GlobalAveragePooling2D()(hidden))
    classifier = keras.Model(films, keras.layers.Activation("sigmoid")(logits))
    optimizer = keras.optimizers.Adam(0.0)
    optimizer.build(classifier.trainable_variables)
    schedule = LearningRate(0.05, 1.0, EPOCHS, optim.schedule, optim.cycles)
    return TrainingState(classifier, optimizer, schedule, batches, ema=optim.ema)


PLATEAU = OptimizerConfig(schedule="plateau")


def train(
    checkpoints: Checkpoints,
    progress: SilentProgress,
    optim: OptimizerConfig = PLATEAU,
    batches: BatchSchedule = BATCHES,
    **told: int,
) -> TrainingState:
    """Train from the newest checkpoint."""
    state, communicator = new_state(optim, batches), SerialCommunicator()
    newest = checkpoints.newest()
    if newest:
        state.restore(newest, checkpoints.best(), checkpoints.snapshots())
    state.share(communicator)
    config = TrainConfig(epochs=EPOCHS, optim=optim, **told)
    with tempfile.TemporaryDirectory() as folder:
        fit(state, DATASET, config, communicator, Reporting(SilentRun(), progress, checkpoints, Path(folder)))
    return state


@pytest.fixture(scope="module")
def unbroken() -> TrainingState:
    return train(NoCheckpoints(), SilentProgress())


def losses(state: TrainingState) -> list[tuple[float, float]]:
    return [(metrics["train/loss"], metrics["val/loss"]) for metrics in state.history]


def equal(state: TrainingState, other: TrainingState) -> bool:
    weights = zip(state.classifier.get_weights(), other.classifier.get_weights(), strict=True)
    return losses(state) == losses(other) and all(np.array_equal(left, right) for left, right in weights)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(0, 5), max_size=3), minutes=st.sampled_from([0.0, 10.0]))
def test_a_training_interrupted_anywhere_goes_on_where_it_stopped(tmp_path_factory, unbroken, stops, minutes) -> None:
    folder = tmp_path_factory.mktemp("job")
    for steps in stops:
        with suppress(KeyboardInterrupt):  # the last may find the training finished
            train(CheckpointFolder(folder, minutes), InterruptingProgress(steps))
    assert equal(train(CheckpointFolder(folder, minutes), SilentProgress()), unbroken)


@pytest.mark.parametrize("steps", [1, 3, 5, 6, 9])
def test_smaller_first_batches_and_the_average_of_weights_survive_an_interruption(tmp_path: Path, steps: int) -> None:
    """Epochs of 6, 3 and 3 steps."""
    growing, averaging = BatchSchedule(PLAN, first=(SMALL,)), OptimizerConfig(ema=0.9)
    unbroken = train(NoCheckpoints(), SilentProgress(), averaging, growing)
    assert (unbroken.total_steps, unbroken.step) == (12, 0)
    with pytest.raises(KeyboardInterrupt):
        train(CheckpointFolder(tmp_path, 0.0), InterruptingProgress(steps), averaging, growing)
    assert equal(train(CheckpointFolder(tmp_path, 0.0), SilentProgress(), averaging, growing), unbroken)


def test_it_is_the_average_that_is_validated_and_kept(tmp_path: Path) -> None:
    plain = train(NoCheckpoints(), SilentProgress())
    averaged = train(CheckpointFolder(tmp_path, 10.0), SilentProgress(), OptimizerConfig(schedule="plateau", ema=0.9))
    kept = CheckpointFolder(tmp_path, 10.0)
    trained, best = kept.newest(), kept.best()
    assert trained is not None
    assert best is not None
    # Training itself does not know of the average; what it learned is what it would have learned without.
    np.testing.assert_array_equal(averaged.history[0]["train/loss"], plain.history[0]["train/loss"])
    assert not np.allclose(trained.weights[0], best.weights[0])
    np.testing.assert_array_equal(averaged.classifier.get_weights()[0], best.weights[0])


@pytest.mark.parametrize("steps", [1, 4, 6])
def test_a_process_that_died_goes_on_from_its_last_checkpoint(tmp_path: Path, unbroken, steps: int) -> None:
    """Killed outright: nothing is written at the end, and what was being written lies there half done."""

    class Died(BaseException):
        pass

    class Power(InterruptingProgress):
        def advance(self, films: int, loss: float) -> None:
            self.steps_left -= 1
            if self.steps_left < 0:
                raise Died

    with pytest.raises(Died):
        train(CheckpointFolder(tmp_path, 0.0), Power(steps))
    (tmp_path / ".step-00000099.npz.0123abcd.partial").write_bytes(b"PK half a checkpoint")
    assert equal(train(CheckpointFolder(tmp_path, 0.0), SilentProgress()), unbroken)


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path: Path, unbroken, capsys) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(CheckpointFolder(tmp_path, 0.0), InterruptingProgress(6))
    _, newest = sorted(tmp_path.glob("step-*.npz"))
    newest.write_bytes(newest.read_bytes()[:1000])
    assert equal(train(CheckpointFolder(tmp_path, 0.0), SilentProgress()), unbroken)
    assert newest.name in capsys.readouterr().err
    for path in tmp_path.glob("step-*.npz"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole"):
        CheckpointFolder(tmp_path, 0.0).newest()


def test_a_disk_that_is_full_costs_a_warning(tmp_path: Path, unbroken, capsys, monkeypatch) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", no_space)
    assert equal(train(CheckpointFolder(tmp_path, 0.0), SilentProgress()), unbroken)
    assert "No space left on device; training goes on" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_stops_and_leaves_the_checkpoints_before(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("radflow.training.loop.build_loss", loss_that_is_nan_from_the_eighth_step)
    with pytest.raises(JobError, match="not finite in epoch 3, step 2"):
        train(CheckpointFolder(tmp_path, 0.0), SilentProgress())
    newest = CheckpointFolder(tmp_path, 0.0).newest()
    assert newest is not None
    assert all(np.isfinite(weight).all() for weight in newest.weights)
    assert len(newest.progress["history"]) == 2
    assert len(newest.progress["step_losses"]) == 1


def loss_that_is_nan_from_the_eighth_step(config: LossConfig, labels: np.ndarray) -> Loss:
    """The loss, and NaN from the eighth step on; the graph counts."""
    film_losses, calls = build_loss(config, labels), tf.Variable(0)

    def poisoned(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        micro_batch = calls.assign_add(1)
        # Steps of an epoch take 2, 2 and 2 micro-batches: the eighth step begins with the fifteenth.
        return film_losses(labels, logits) + tf.where(micro_batch >= 15, float("nan"), 0.0)

    return poisoned


def test_a_lost_best_after_the_last_epoch_leaves_the_last(tmp_path: Path, capsys) -> None:
    train(CheckpointFolder(tmp_path, 10.0), SilentProgress())
    best = tmp_path / "best.npz"
    best.write_bytes(best.read_bytes()[:-1])
    state = train(CheckpointFolder(tmp_path, 10.0), SilentProgress())
    newest = CheckpointFolder(tmp_path, 10.0).newest()
    assert newest is not None
    for weights, kept in zip(state.classifier.get_weights(), newest.weights, strict=True):
        np.testing.assert_array_equal(weights, kept)
    assert "the best epoch are lost" in capsys.readouterr().err


def test_a_best_that_a_full_disk_has_left_behind_is_known_to_be_stale(tmp_path: Path, monkeypatch) -> None:
    """The epoch after the first is better, and its weights cannot be written."""
    folder = CheckpointFolder(tmp_path, 10.0)
    state = new_state(PLATEAU)
    state.history, state.best_epoch, state.best_weights = [], 0, state.classifier.get_weights()
    folder.write_best(state.best_checkpoint())
    state.history = [{"val/loss": 0.7, "val/auc/mean": 0.6}, {"val/loss": 0.6, "val/auc/mean": 0.8}]
    state.best_epoch = 1
    folder.write(1, state.checkpoint())
    newest = folder.newest()
    assert newest is not None
    resumed = new_state(PLATEAU)
    resumed.restore(newest, folder.best(), {})
    assert resumed.best_epoch is None


def test_training_stops_early_when_no_epoch_is_better(tmp_path: Path, unbroken) -> None:
    areas = [metrics["val/auc/mean"] for metrics in unbroken.history]
    stalled = next((epoch for epoch in range(1, EPOCHS) if areas[epoch] <= max(areas[:epoch])), None)
    state = train(NoCheckpoints(), SilentProgress(), early_stopping=1)
    assert state.epoch == (EPOCHS if stalled is None else stalled + 1)


def test_snapshots_predict_as_one_also_after_an_interruption(tmp_path: Path) -> None:
    cyclic = OptimizerConfig(schedule="cyclic", cycles=2)
    ensemble = train(NoCheckpoints(), SilentProgress(), cyclic, snapshots=2)
    assert list(ensemble.snapshots) == [2, 3]
    films = SPLITS["val"].pixels
    member = new_state(cyclic).classifier
    predictions = []
    for weights in ensemble.snapshots.values():
        member.set_weights(weights)
        predictions.append(np.asarray(member(films)))
    assert not np.allclose(*predictions)
    averaged = np.asarray(ensemble.classifier(films))
    np.testing.assert_allclose(averaged, np.mean(predictions, axis=0), atol=1e-6)

    with pytest.raises(KeyboardInterrupt):
        train(CheckpointFolder(tmp_path, 0.0), InterruptingProgress(9), cyclic, snapshots=2)
    resumed = train(CheckpointFolder(tmp_path, 0.0), SilentProgress(), cyclic, snapshots=2)
    np.testing.assert_array_equal(resumed.classifier(films), averaged)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"snapshots": 2}, "give schedule=cyclic"),
        ({"snapshots": 3, "optim": OptimizerConfig(schedule="cyclic", cycles=2)}, "at most cycles=2"),
        ({"snapshots": 2, "epochs": 4, "optim": OptimizerConfig(schedule="cyclic", cycles=2)}, "do not divide the 3"),
    ],
)
def test_impossible_snapshots_are_one_line(told, words: str) -> None:
    with pytest.raises(UserError, match=words):
        TrainConfig(**{"epochs": 3, **told})
