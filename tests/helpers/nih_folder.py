"""Small made films in the layout of ChestX-ray14."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
FINDINGS_IN_TURN = ("No Finding", "Mass", "Effusion|Infiltration", "Hernia")


def png_bytes(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def film_name(number: int) -> str:
    """Two films a patient: 00000001_000.png, 00000001_001.png, 00000002_000.png ..."""
    return f"{number // 2 + 1:08d}_{number % 2:03d}.png"


def write_release(folder: Path, films: int = 20, size: int = 48, seed: int = 0) -> list[str]:
    """Write films, label file and lists (the last quarter of the patients is test); returns the film names."""
    random = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    names = [film_name(number) for number in range(films)]
    for name in names:
        (folder / "images" / name).write_bytes(png_bytes(random.integers(0, 256, (size, size), dtype=np.uint8)))
    rows = [
        f"{name},{FINDINGS_IN_TURN[number % 4]},0,{number // 2 + 1},57,M,{'PA' if number % 3 else 'AP'}"
        for number, name in enumerate(names)
    ]
    (folder / "Data_Entry_2017.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    first_test = films - films // 8 * 2
    (folder / "train_val_list.txt").write_text("\n".join(names[:first_test]) + "\n")
    (folder / "test_list.txt").write_text("\n".join(names[first_test:]) + "\n")
    return names
