from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@settings(max_examples=60)
@given(st.data())
def test_no_flipped_bit_passes(tmp_path_factory, data) -> None:
    """A flip in zip's directory can name another array, or point to other bytes, without any CRC that notices."""
    path = tmp_path_factory.mktemp("flipped") / "step.npz"
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(4, np.float32)]
    write_checkpoint(path, Checkpoint(arrays, arrays, {"history": []}))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        read_checkpoint(path)


@pytest.mark.parametrize("length", [0, 1, 31, 32, 100])
def test_a_file_that_was_cut_is_damaged(tmp_path: Path, length: int) -> None:
    path = tmp_path / "step.npz"
    write_checkpoint(path, Checkpoint([np.ones(4)], [], {}))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match="cannot be read"):
        read_checkpoint(path)
