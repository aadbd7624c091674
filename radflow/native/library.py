"""The library of the native operations: compiled once for the environments of a user, and loaded where it is there.

All of radflow runs without it, by operations that TensorFlow has.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from radflow.cpu import available_cores
from radflow.errors import JobError, UserError
from radflow.files import atomic_file, cache_folder
from radflow.terminal import import_tensorflow, say, warn, without_notices
from radflow.versions import installed_versions

SWITCH = "RADFLOW_NATIVE"
"""Environment variable; 0 keeps to TensorFlow's own operations."""
_FOLDER = Path(__file__).resolve().parent
# -O3 vectorises the loops; the other two let it do so across what would set errno or trap.
_FLAGS = ("-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math")


def library_path() -> Path:
    """Where the library of these sources for this TensorFlow is, or would be: within the environment."""
    sources = [path.read_text(encoding="utf-8") for path in _sources("*.cc") + _sources("*.h")]
    built_for = (installed_versions(["tensorflow", "tensorflow-cpu"]), platform.machine(), _FLAGS)
    key = hashlib.sha256(f"{sources} {built_for}".encode()).hexdigest()[:16]
    return Path(sys.prefix) / "lib" / "radflow" / f"native-{key}.so"


def build() -> Path:
    """Put the library into this environment, compiled (half a minute) or from the cache, and return its path.

    Raises
    ------
    UserError
        There is no C++ compiler.
    JobError
        It does not compile, or the result does not load.
    """
    path = library_path()
    kept = cache_folder() / "native" / path.name
    with atomic_file(path) as partial:
        is_new = not _is_copied(kept, partial)
        if is_new:
            _compile(partial)
    if is_new:
        with suppress(OSError), atomic_file(kept) as copy:  # a folder that cannot be written costs the next one time
            shutil.copyfile(path, copy)
    return path


def _is_copied(kept: Path, target: Path) -> bool:
    """Copy what another environment has compiled; False where nothing has, or it does not load on this machine."""
    import_tensorflow()
    import tensorflow as tf

    try:
        shutil.copyfile(kept, target)
        _load(target)
    except (OSError, tf.errors.OpError):
        return False
    return True


def _compile(target: Path) -> None:
    import_tensorflow()
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        objects = [str(Path(folder) / f"{source.stem}.o") for source in _sources("*.cc")]
        lines = [
            [*_FLAGS, *tf.sysconfig.get_compile_flags(), "-c", str(source), "-o", compiled]
            for source, compiled in zip(_sources("*.cc"), objects, strict=True)
        ]
        with ThreadPoolExecutor(available_cores()) as pool:
            list(pool.map(_run_compiler, lines))
        _run_compiler(["-shared", *objects, *tf.sysconfig.get_link_flags(), "-o", str(target)])
    try:
        _load(target)
    except tf.errors.OpError as error:
        raise JobError(f"the native operations compile and do not load: {error.message}") from error


def _run_compiler(arguments: list[str]) -> None:
    compiler = os.environ.get("CXX", "g++")
    try:
        result = subprocess.run([compiler, *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        advice = "install a C++ compiler (Debian, Ubuntu: apt-get install g++), or name one by CXX"
        raise UserError(f"{compiler} not found; {advice}") from error
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if "error" in line] or [f"{compiler} failed"]
        raise JobError(f"the native operations do not compile: {errors[0]}")


@functools.cache
def operations() -> Any:
    """The operations as TensorFlow names them; None where they are not built, or switched off by RADFLOW_NATIVE=0."""
    if os.environ.get(SWITCH) == "0":
        return None
    if not (path := library_path()).exists():
        say("training would be faster with the native operations: `python -m radflow build` compiles them")
        return None
    import tensorflow as tf

    try:
        return _load(path)
    except tf.errors.OpError as error:
        warn(f"{path} does not load ({error.message}); `python -m radflow build` builds it again")
        return None


def _load(path: Path) -> ModuleType:
    import tensorflow as tf

    with without_notices():  # its part of TensorFlow's framework says them once more
        return tf.load_op_library(str(path))


def _sources(pattern: str) -> list[Path]:
    return sorted(_FOLDER.glob(pattern))
