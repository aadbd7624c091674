"""The process that reads mutated files, and may die of one: a seed a line on stdin, two lines on stdout for each."""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import optuna

from benchmarks.mutated_files.films import film_files
from benchmarks.mutated_files.mutations import mutate
from benchmarks.mutated_files.results import dataset_files, result_files, weights_files
from benchmarks.mutated_files.small_file import TOLD, SmallFile
from benchmarks.mutated_files.tables import table_files

MEMORY = 1_500_000_000
"""Bytes that may be taken beyond those of the interpreter with all that it has imported."""
LONGEST_LINE = 8_000
"""Letters of one line that somebody is to read; it may quote a file's name or cell."""


def kinds_of_files() -> dict[str, SmallFile]:
    """All kinds by name."""
    return film_files() | table_files() | dataset_files() | result_files() | weights_files()


def run(seed: int, kinds: dict[str, SmallFile], folder: Path) -> None:
    """Mutate a file and read it; print what it is before, and what became of it after."""
    draw = random.Random(seed)
    kind = draw.choices(list(kinds), [each.weight for each in kinds.values()])[0]
    content, mutations = mutate(kinds[kind].content, draw)
    print(json.dumps({"seed": seed, "kind": kind, "mutations": mutations}), flush=True)
    print(json.dumps(read(kinds[kind], content, folder)), flush=True)


def read(file: SmallFile, content: bytes, folder: Path) -> dict[str, object]:
    """Write a file of this content into an empty folder and read it: `right`, `told` in a line, or `wrong`."""
    path = folder / file.name
    path.parent.mkdir(parents=True)
    file.write(content, path)
    _forget_peak()
    before, started = _status("VmRSS"), time.perf_counter()
    outcome, text = "right", ""
    try:
        file.read(path)
    except TOLD as error:
        text = str(error)
        is_line = text and "\n" not in text and len(text) <= LONGEST_LINE
        outcome = "told" if is_line else "wrong"
    except Exception as error:  # noqa: BLE001 - any other is what this program looks for
        place = traceback.extract_tb(error.__traceback__)[-1]
        outcome, text = "wrong", f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
    seconds = time.perf_counter() - started
    if outcome == "right" and file.is_hashed and content != file.content:
        outcome, text = "wrong", "a change of hashed bytes is not noticed"
    return {"outcome": outcome, "text": text[:500], "seconds": seconds, "memory": _status("VmHWM") - before}


def _limit_memory() -> None:
    limit = _status("VmData") + MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _forget_peak() -> None:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    return int(Path("/proc/self/status").read_text().partition(f"{name}:")[2].split()[0]) * 1024


def main() -> None:
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="mutated-") as temporary:
        os.environ["RADFLOW_CACHE"] = str(Path(temporary, "cache"))
        kinds = kinds_of_files()
        for kind, file in kinds.items():
            whole = read(file, file.content, Path(temporary, kind))
            if whole["outcome"] != "right":
                raise SystemExit(f"{kind} is not read even as it is: {whole['text']}")
        if "tensorflow" in sys.modules:
            raise SystemExit("TensorFlow is imported, whose memory would leave the limit without meaning")
        gc.freeze()  # what is imported is not looked through again for every file
        _limit_memory()
        print("ready", flush=True)
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stderr.fileno())  # what readers say to a person
        for line in sys.stdin:
            folder = Path(temporary, line.strip())
            run(int(line), kinds, folder)
            shutil.rmtree(folder, ignore_errors=True)  # some readers have removed it


if __name__ == "__main__":
    main()
