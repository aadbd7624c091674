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
from radflow.models.precision import choose_precision, supports_bfloat16
from radflow.plots.tables import terminal_table
from radflow.terminal import print_table

PACKAGES = ("radflow", "keras", "mlflow", "numpy", "pandas", "pyarrow", "pydicom", "pillow")
MEND_SETUP = "run `make setup` in the project's folder"


@dataclass(frozen=True)
class Finding:
    """The result of one check; `fix` is empty where nothing is wrong."""

    topic: str
    state: str
    fix: str = ""


def examine() -> list[Finding]:
    """Run every check; a tracking store is made where there is none yet, and nothing else is changed."""
    checks: tuple[Callable[[], Finding], ...] = (
        _machine,
        _packages,
        _tensorflow,
        _horovod,
        _open_mpi,
        _compiler,
        _mlflow_environment,
        _tracking,
    )
    return [check() for check in checks]


def print_report(findings: list[Finding]) -> None:
    """Print a row per check, what is wrong in red with its fix."""
    missing, fine = Text("missing", style="red"), Text("ok", style="green")
    rows = [(missing if each.fix else fine, each.topic, each.state, each.fix) for each in findings]
    print_table(terminal_table("radflow doctor", ("", "Topic", "State", "Mend"), rows))


def _machine() -> Finding:
    cores, memory = available_cores(), psutil.virtual_memory().total / 2**30
    bfloat16 = "bfloat16 in hardware" if supports_bfloat16() else "no bfloat16 in hardware"
    return Finding(
        "Machine",
        f"{platform.system()} {platform.machine()}, {cores} usable of {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"{bfloat16}; precision=auto is {choose_precision('auto')}",
    )


def _packages() -> Finding:
    versions = [f"Python {platform.python_version()}"]
    missing = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    fix = f"{', '.join(missing)} not installed; {MEND_SETUP}" if missing else ""
    return Finding("Packages", ", ".join(versions), fix)


def _tensorflow() -> Finding:
    for package in ("tensorflow", "tensorflow-cpu"):
        try:
            return Finding("TensorFlow", f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return Finding("TensorFlow", "not installed", MEND_SETUP)


def _horovod() -> Finding:
    try:
        version = importlib.metadata.version("horovod")
    except importlib.metadata.PackageNotFoundError:
        return Finding("Horovod", "not installed", "run `docker/build_horovod.sh`, which builds it against TensorFlow")
    code = (
        "import horovod.tensorflow as h; "
        "print('MPI' if h.mpi_built() else '', 'Gloo' if h.gloo_built() else '', 'NCCL' if h.nccl_built() else '')"
    )
    result = _run([sys.executable, "-c", code])
    if result.returncode:
        reason = result.stderr.strip().splitlines()[-1] if result.stderr.strip() else "no reason given"
        return Finding("Horovod", f"{version} does not load: {reason}", "run `docker/build_horovod.sh` again")
    built = result.stdout.split()
    fix = "" if "MPI" in built else "build it with MPI: `docker/build_horovod.sh`"
    return Finding("Horovod", f"{version} with {' and '.join(built) or 'no controller'}", fix)


def _open_mpi() -> Finding:
    beside = Path(sys.executable).parent / "mpirun"
    program = str(beside) if beside.exists() else shutil.which("mpirun")
    if not program:
        return Finding("MPI", "mpirun not found", MEND_SETUP)
    result = _run([program, "--version"])
    lines = result.stdout.splitlines()
    return Finding("MPI", f"{lines[0] if lines else 'unknown version'} ({program})")


def _compiler() -> Finding:
    program = shutil.which("g++")
    if program:
        return Finding("Compiler", f"{program} {_run([program, '-dumpfullversion']).stdout.strip()}")
    if importlib.util.find_spec("horovod"):
        return Finding("Compiler", "g++ not found; it is needed only to build Horovod, which is there")
    return Finding("Compiler", "g++ not found", "install a C++ compiler (Debian, Ubuntu: apt-get install g++)")


def _mlflow_environment() -> Finding:
    """Whether plain `mlflow run .` finds this environment."""
    from radflow.tracking.project_environment import registered_environment

    project = Path(__file__).parent.parent
    if not (project / "python_env.yaml").exists():
        return Finding("mlflow run", "radflow is installed outside a checkout", "clone the project to use it")
    link = registered_environment(project)
    if not link.exists():
        return Finding("mlflow run", f"no environment at {link}", f"{MEND_SETUP}, or add `--env-manager local`")
    if link.resolve() != Path(sys.prefix).resolve():
        return Finding("mlflow run", f"uses {link.resolve()}, of another checkout", MEND_SETUP)
    return Finding("mlflow run", f"uses {link.resolve()}")


def _tracking() -> Finding:
    from radflow.secrets import hide_secrets
    from radflow.tracking.connection import prepare_tracking

    try:
        return Finding("MLflow", f"logs to {hide_secrets(prepare_tracking())}")
    except UserError as error:
        return Finding("MLflow", "cannot log", str(error))


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=quiet)
