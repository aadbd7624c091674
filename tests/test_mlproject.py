"""MLproject repeats the typed configs, and conda.yaml the packages of pyproject.toml; these tests keep them equal."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from radflow.commands import SETTINGS, settings_of
from radflow.config import parse

CONFIGS = {"main": settings_of("train"), **{name: settings_of(name) for name in SETTINGS}}
MLPROJECT = yaml.safe_load((Path(__file__).parent.parent / "MLproject").read_text())


def settings(config: Any) -> dict[str, tuple[Any, Any]]:
    """Type and default of each flag of a config, nested configs included."""
    found: dict[str, tuple[Any, Any]] = {}
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        found |= settings(value) if dataclasses.is_dataclass(value) else {field.name: (hints[field.name], value)}
    return found


def mlproject_type(annotation: Any) -> str:
    # MLflow has no type for true/false and for choices: they are its strings.
    return {int: "int", float: "float"}.get(annotation, "string")


def mlproject_default(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def test_every_entry_point_has_a_config_and_a_program() -> None:
    assert MLPROJECT["entry_points"].keys() == CONFIGS.keys()
    programs = {path.stem for path in (Path(__file__).parent.parent / "entrypoints").glob("[!_]*.py")}
    assert programs == CONFIGS.keys() - {"main"}


@pytest.mark.parametrize("entry", CONFIGS)
def test_parameters_types_and_defaults_are_those_of_the_config(entry: str) -> None:
    declared = MLPROJECT["entry_points"][entry]["parameters"]
    expected = {
        name: {"type": mlproject_type(annotation), "default": mlproject_default(default)}
        for name, (annotation, default) in settings(CONFIGS[entry]()).items()
    }
    assert declared == expected


@pytest.mark.parametrize("entry", CONFIGS)
def test_the_command_passes_every_parameter_under_its_own_name(entry: str) -> None:
    command = MLPROJECT["entry_points"][entry]["command"].split()
    program = "train" if entry == "main" else entry
    assert command[:3] == ["python", "-m", f"entrypoints.{program}"]
    passed = [re.fullmatch(r"--(\w+)=\{(\w+)\}", flag) for flag in command[3:]]
    assert all(match and match[1] == match[2] for match in passed)
    assert [match[1] for match in passed if match] == list(MLPROJECT["entry_points"][entry]["parameters"])


@pytest.mark.parametrize("entry", CONFIGS)
def test_the_defaults_as_mlflow_passes_them_are_understood(entry: str) -> None:
    defaults = MLPROJECT["entry_points"][entry]["parameters"].items()
    arguments = [f"--{name}={parameter['default']}" for name, parameter in defaults]
    assert parse(CONFIGS[entry], arguments) == CONFIGS[entry]()


def test_the_conda_environment_has_the_same_packages() -> None:
    folder = Path(__file__).parent.parent
    listed = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["dependencies"]
    called = {"isal": "python-isal", "matplotlib": "matplotlib-base"}
    expected = {called.get(name, name) for name in map(package, listed)} | {"horovod", "python", "pip"}
    assert {package(line) for line in yaml.safe_load((folder / "conda.yaml").read_text())["dependencies"]} == expected


def package(requirement: str) -> str:
    """The name in a requirement such as psycopg[binary]>=3.2."""
    return re.split(r"[^\w-]", requirement)[0]


def test_the_image_gets_what_it_copies_and_nothing_by_default() -> None:
    folder = Path(__file__).parent.parent
    rules = [line for line in (folder / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert rules[0] == "*"
    lines = re.findall(r"^COPY (?!.*--from)(.*) \S+$", (folder / "docker" / "Dockerfile").read_text(), re.MULTILINE)
    copied = [re.sub(r"--\S+ ", "", line) for line in lines]
    sources = {source.partition("/")[0] for line in copied for source in line.split()} - {"."}
    assert sources <= allowed
    assert {"MLproject", "entrypoints", "radflow", "registry"} <= allowed
    assert all((folder / name).exists() for name in allowed)


def test_nothing_in_the_image_runs_as_root() -> None:
    """What the image starts is started after the last USER, and pods are told the same user."""
    folder = Path(__file__).parent.parent / "docker"
    instructions = [line.split() for line in (folder / "Dockerfile").read_text().splitlines() if line[:1].isupper()]
    users = [words[1] for words in instructions if words[0] == "USER"]
    assert users == ["radflow"]
    last = [words[0] for words in instructions].index("USER")
    assert {"CMD"} <= {words[0] for words in instructions[last:]}
    job = yaml.safe_load((folder / "kubernetes" / "mpijob.yaml").read_text())
    for role in job["spec"]["mpiReplicaSpecs"].values():
        assert role["template"]["spec"]["securityContext"]["runAsUser"] == 1000
        assert role["template"]["spec"]["securityContext"]["runAsNonRoot"]


def test_the_flags_of_an_mpi_job_are_settings() -> None:
    job = yaml.safe_load((Path(__file__).parent.parent / "docker" / "kubernetes" / "mpijob.yaml").read_text())
    (launcher,) = job["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"]
    config = parse(CONFIGS["distributed"], launcher["args"][4:])
    assert launcher["args"][:4] == ["python", "-m", "radflow", "distributed"]
    assert (config.gbz, config.hosts, config.resume) == (4096, "/etc/mpi/hostfile", "auto")
