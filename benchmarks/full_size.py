"""ChestX-ray14 at its full size: 112,120 films of noise under the release's own label file and lists.

    python -m benchmarks.full_size LABELS [--size 32] [--workers 2]

LABELS is a folder with Data_Entry_2017_v2020.csv, train_val_list.txt and test_list.txt (plain or .gz), whose names the
films get. They are packed into twelve archives as in the release, preprocessed, and the dataset is opened. Expected:
the release's counts in the manifest, every process under 300 MB, the dataset opened in 2 s and 200 MB. On two
hyper-threads of one core this takes about ten minutes and 1 GB of disk.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from radflow.data.readers.chestxray14 import NO_FINDING, RELEASED_COUNTS, RELEASED_FILMS, ChestXray14

ARCHIVES = 12
DIFFERENT_FILMS = 100
MAX_PROCESS_MB = 300
MAX_OPENING_SECONDS, MAX_OPENING_MB = 2.0, 200

PREPROCESS = """
import sys
from radflow.data.config import PreprocessConfig
from radflow.data.preprocess import preprocess
if __name__ == "__main__":
    source, out, size, workers = sys.argv[1:]
    preprocess(PreprocessConfig(source=source, out=out, image_size=int(size), workers=int(workers)))
"""
OPEN = """
import sys, time
start = time.perf_counter()
from radflow.data.dataset.reading import open_dataset
dataset = open_dataset(sys.argv[1])
films = sum(len(dataset.split(name)) for name in ("train", "val", "test"))
print(films, time.perf_counter() - start)
"""


def pack_films(labels: Path, source: Path, size: int) -> int:
    """Link label file and lists into `source`, and pack a film for each row; returns the number of films."""
    source.mkdir()
    for path in labels.iterdir():
        (source / path.name).symlink_to(path.resolve())
    names = ChestXray14.at(source).read_labels().image_ids.tolist()
    random = np.random.default_rng(0)
    films = [png_bytes(random.integers(0, 256, (size, size), dtype=np.uint8)) for _ in range(DIFFERENT_FILMS)]
    for number, part in enumerate(np.array_split(names, ARCHIVES), start=1):
        with tarfile.open(source / f"images_{number:03d}.tar.gz", "w:gz", compresslevel=1) as archive:
            for place, name in enumerate(part.tolist()):
                member = tarfile.TarInfo(f"images/{name}")
                content = films[place % DIFFERENT_FILMS]
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return len(names)


def png_bytes(pixels: np.ndarray) -> bytes:
    """A grey film as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def run_measured(script: Path, *arguments: object) -> tuple[str, float, float, list[float]]:
    """Run a script: its output, seconds, and the peak memory (MB) of itself and of each child."""
    start = time.perf_counter()
    command = [sys.executable, str(script), *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as output:
        with subprocess.Popen(command, stdout=output) as process:
            peaks: dict[int, float] = {}
            while process.poll() is None:
                for pid in [process.pid, *(child.pid for child in psutil.Process(process.pid).children())]:
                    peaks[pid] = max(peaks.get(pid, 0.0), peak_memory(pid))
                time.sleep(0.02)
        if process.returncode:
            sys.exit(process.returncode)
        output.seek(0)
        own = peaks.pop(process.pid)
        return output.read(), time.perf_counter() - start, own, list(peaks.values())


def peak_memory(pid: int) -> float:
    """Largest resident memory of a process so far in MB; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    lines = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) / 1024 if lines else 0.0


def differences(manifest: dict) -> list[str]:
    """Each count of the manifest that is not the release's."""
    splits = manifest["splits"].values()
    found = {finding: sum(split["positives"][finding] for split in splits) for finding in manifest["findings"]}
    found[NO_FINDING] = sum(split["no_finding"] for split in splits)
    found["films"] = sum(split["rows"] for split in splits)
    expected = {**RELEASED_COUNTS, "films": RELEASED_FILMS, "test": 25_596, "rejected": 0}
    found |= {"test": manifest["splits"]["test"]["rows"], "rejected": manifest["rejected"]}
    return [f"{name}: {found[name]:,}, expected {count:,}" for name, count in expected.items() if found[name] != count]


def main() -> int:
    """Print the figures; 1 where one is not what is expected."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, metavar="LABELS")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="full-size-") as name:
        folder = Path(name)
        films = pack_films(arguments.labels, folder / "films", arguments.size)
        print(f"{films:,} films of {arguments.size} px packed into {ARCHIVES} archives", flush=True)
        for script, content in (("preprocess.py", PREPROCESS), ("open.py", OPEN)):
            (folder / script).write_text(content)
        given = (folder / "films", folder / "dataset", arguments.size, arguments.workers)
        _, seconds, own, workers = run_measured(folder / "preprocess.py", *given)
        print(f"preprocess    {seconds:.0f} s, {films / seconds:.0f} films/s with {arguments.workers} workers")
        largest = max(workers, default=0.0)
        print(f"peak memory   {own:.0f} MB parent, {largest:.0f} MB the largest worker (limit {MAX_PROCESS_MB})")
        wrong = differences(json.loads((folder / "dataset" / "manifest.json").read_text()))
        print(f"manifest      {'; '.join(wrong) or 'as released, all counts'}")
        output, _, opening_memory, _ = run_measured(folder / "open.py", folder / "dataset")
        opened, opening = (float(word) for word in output.split())
        limits = f"limits {MAX_OPENING_SECONDS:.0f} s, {MAX_OPENING_MB} MB"
        print(f"opening       {opening:.2f} s with imports, {opening_memory:.0f} MB ({limits})")
    within = max(own, largest) < MAX_PROCESS_MB and opening < MAX_OPENING_SECONDS and opening_memory < MAX_OPENING_MB
    return int(bool(wrong) or not within or opened != films)


if __name__ == "__main__":
    sys.exit(main())
