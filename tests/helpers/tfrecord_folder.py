"""Small made crops in the layout of the pre-cut DDSM, written by TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

SIDE = 299


def example(image: bytes, label: int, label_normal: int | None = None) -> bytes:
    features = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        "label_normal": tf.train.Feature(
            int64_list=tf.train.Int64List(value=[int(label > 0) if label_normal is None else label_normal])
        ),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_records(path: Path, contents: list[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)
    return path


def made_crops(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 1), dtype=np.uint8)


def write_precut(folder: Path) -> dict[str, np.ndarray]:
    """Two files of ten training crops each, and two arrays of five; labels are 0, 1 ... 4, 0 ...; returns the crops."""
    crops = {}
    for number in range(2):
        name = f"training10_{number}"
        crops[name] = made_crops(10, number)
        contents = [example(crop.tobytes(), place % 5) for place, crop in enumerate(crops[name])]
        write_records(folder / name / f"{name}.tfrecords", contents)
    for number, name in enumerate(("test10", "cv10")):
        crops[f"{name}_data"] = made_crops(5, 10 + number)
        (folder / f"{name}_data").mkdir()
        np.save(folder / f"{name}_data" / f"{name}_data.npy", crops[f"{name}_data"])
        np.save(folder / f"{name}_labels.npy", np.arange(5))
    return crops
