from __future__ import annotations

import numpy as np
import pytest

from radflow.errors import UserError
from radflow.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint


@pytest.fixture
def checkpoint() -> Checkpoint:
    generator = np.random.default_rng(0)
    weights = [generator.normal(size=shape).astype(np.float32) for shape in ((3, 3, 4), (4,), ())]
    return Checkpoint(weights, [np.array(7), weights[0] * 2], {"epoch": 3, "learning_rate": {"best_loss": 0.25}})


def test_what_is_written_is_read(checkpoint, tmp_path):
    write_checkpoint(tmp_path / "last.npz", checkpoint)
    again = read_checkpoint(tmp_path / "last.npz")
    assert again.progress == checkpoint.progress
    for left, right in zip(again.weights + again.optimizer, checkpoint.weights + checkpoint.optimizer, strict=True):
        np.testing.assert_array_equal(left, right)


def test_one_flipped_bit_is_noticed(checkpoint, tmp_path):
    path = tmp_path / "last.npz"
    write_checkpoint(path, checkpoint)
    content = bytearray(path.read_bytes())
    place = content.index(checkpoint.weights[0].tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"last\.npz"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off"])
def test_a_cut_off_or_missing_checkpoint_is_one_line(content, tmp_path):
    (tmp_path / "last.npz").write_bytes(content)
    with pytest.raises(UserError):
        read_checkpoint(tmp_path / "last.npz")
    with pytest.raises(UserError):
        read_checkpoint(tmp_path / "absent.npz")
