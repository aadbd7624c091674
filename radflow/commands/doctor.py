"""What this installation can do, what is missing, and how to fix it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.text import Text

from radflow.cpu import available_cores
from radflow.errors import UserError
from radflow.gpu import usable_gpus
from radflow.models.precision import choose_precision, supports_bfloat16
from radflow.native.library import library_path
from radflow.plots.tables import terminal_table
from radflow.terminal import print_table

PACKAGES = ("radflow", "keras", "mlflow", "numpy", "pandas", "pyarrow", "pydicom", "pillow")
FIX_SETUP = "run `make setup` in the project's folder"


@dataclass(frozen=True)
class Diagnostic:
    """The result of one check; `fix` is empty where nothing is wrong."""

    topic: str
    state: str
    fix: str = ""


def examine() -> list[Diagnostic]:
    """Run every check; a tracking store is made where there is none yet, and nothing else is changed."""
    checks: tuple[Callable[[], Diagnostic], ...] = (
        _machine,
        _packages,
        _tensorflow,
        _horovod,
        _open_mpi,
        _compiler,
        _native,
        examine_mlflow_run,
        _tracking,
    )
    return [check() for check in checks]


def print_report(diagnostics: list[Diagnostic]) -> None:
    """Print a row per check, what is wrong in red with its fix."""
    missing, fine = Text("missing", style="red"), Text("ok", style="green")
    rows = [(missing if each.fix else fine, each.topic, each.state, each.fix) for each in diagnostics]
    print_table(terminal_table("radflow doctor", ("", "Topic", "State", "Fix"), rows))


def _machine() -> Diagnostic:
    cores, memory = available_cores(), psutil.virtual_memory().total / 2**30
    gpus = f"{len(usable_gpus())} x {usable_gpus()[0].name}, " if usable_gpus() else ""
    bfloat16 = "bfloat16 in hardware" if supports_bfloat16() else "no bfloat16 in hardware"
    return Diagnostic(
        "Machine",
        f"{platform.system()} {platform.machine()}, {cores} usable of {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"{gpus}{bfloat16}; precision=auto is {choose_precision('auto')}",
    )


def _packages() -> Diagnostic:
    versions = [f"Python {platform.python_version()}"]
    missing = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    fix = f"{', '.join(missing)} not installed; {FIX_SETUP}" if missing else ""
    return Diagnostic("Packages", ", ".join(versions), fix)


def _tensorflow() -> Diagnostic:
    for package in ("tensorflow", "tensorflow-cpu"):
        try:
            return Diagnostic("TensorFlow", f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return Diagnostic("TensorFlow", "not installed", FIX_SETUP)


def _horovod() -> Diagnostic:
    try:
        version = importlib.metadata.version("horovod")
    except importlib.metadata.PackageNotFoundError:
        return Diagnostic("Horovod", "not installed", "run `docker/build_horovod.sh`, which builds it for TensorFlow")
    code = (
        "import horovod.tensorflow as h; "
        "print('MPI' if h.mpi_built() else '', 'Gloo' if h.gloo_built() else '', 'NCCL' if h.nccl_built() else '')"
    )
    result = _run([sys.executable, "-c", code])
    if result.returncode:
        reason = result.stderr.strip().splitlines()[-1] if result.stderr.strip() else "no reason given"
        return Diagnostic("Horovod", f"{version} does not load: {reason}", "run `docker/build_horovod.sh` again")
    built = result.stdout.split()
    fix = "" if "MPI" in built else "build it with MPI: `docker/build_horovod.sh`"
    return Diagnostic("Horovod", f"{version} with {' and '.join(built) or 'no controller'}", fix)


def _open_mpi() -> Diagnostic:
    beside = Path(sys.executable).parent / "mpirun"
    program = str(beside) if beside.exists() else shutil.which("mpirun")
    if not program:
        return Diagnostic("MPI", "mpirun not found", FIX_SETUP)
    result = _run([program, "--version"])
    lines = result.stdout.splitlines()
    return Diagnostic("MPI", f"{lines[0] if lines else 'unknown version'} ({program})")


def _compiler() -> Diagnostic:
    program = shutil.which("g++")
    if program:
        return Diagnostic("Compiler", f"{program} {_run([program, '-dumpfullversion']).stdout.strip()}")
    if importlib.util.find_spec("horovod"):
        return Diagnostic("Compiler", "g++ not found; it is needed only to build Horovod, which is there")
    return Diagnostic("Compiler", "g++ not found", "install a C++ compiler (Debian, Ubuntu: apt-get install g++)")


def _native() -> Diagnostic:
    path = library_path()
    missing = "not built; with them, training is faster: `python -m radflow build`"
    return Diagnostic("Native operations", str(path) if path.exists() else missing)


def examine_mlflow_run() -> Diagnostic:
    """Whether plain `mlflow run .` finds this environment."""
    from radflow.tracking.project_environment import registered_environment

    project = Path(__file__).resolve().parents[2]
    if not (project / "python_env.yaml").exists():
        return Diagnostic("mlflow run", "radflow is installed outside a checkout", "clone the project to use it")
    link = registered_environment(project)
    if not link.exists():
        return Diagnostic("mlflow run", f"no environment at {link}", f"{FIX_SETUP}, or add `--env-manager local`")
    if link.resolve() != Path(sys.prefix).resolve():
        return Diagnostic("mlflow run", f"uses {link.resolve()}, of another checkout", FIX_SETUP)
    return Diagnostic("mlflow run", f"uses {link.resolve()}")


def _tracking() -> Diagnostic:
    from radflow.secrets import hide_secrets
    from radflow.tracking.connection import prepare_tracking

    try:
        return Diagnostic("MLflow", f"logs to {hide_secrets(prepare_tracking())}")
    except UserError as error:
        return Diagnostic("MLflow", "cannot log", str(error))


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=quiet)
