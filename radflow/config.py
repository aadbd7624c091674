"""How a typed, frozen dataclass becomes a command: flags, config files, one-line errors, exit codes."""

from __future__ import annotations

import dataclasses
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import cyclopts

from radflow.errors import FAILURE, MISTAKE, Interrupted, JobError, UserError
from radflow.files import read_yaml
from radflow.processes import end_with_mlflow_run
from radflow.secrets import hide_secrets
from radflow.terminal import show_log, warn

Config = TypeVar("Config")

RENAMED = {"body_lr": "body_lr_factor"}
"""Earlier names of settings, which are accepted with a warning."""


def run_command(config_type: type[Config], command: Callable[[Config], object], arguments: Sequence[str]) -> int:
    """Parse `arguments` into a `config_type`, run `command` with it and return the process's exit code."""
    end_with_mlflow_run()
    return exit_code_of(lambda: command(parse(config_type, arguments)))


def exit_code_of(command: Callable[[], object]) -> int:
    """Run `command` and turn how it ends into an exit code.

    0 when it worked, 2 with one line on stderr for a mistake of the user, 128 + signal when interrupted, 1 for a
    failure: in one line where the reason is known, with a traceback else.
    """
    try:
        show_log()
        command()
    except UserError as error:
        return _end(f"error: {error}", MISTAKE)
    except Interrupted as interruption:
        return _end(f"stopped: {interruption}", interruption.exit_code)
    except KeyboardInterrupt:
        return _end("stopped: received SIGINT", 130)
    except JobError as error:
        return _end(f"failed: {error}", FAILURE)
    except Exception:  # noqa: BLE001 - the outermost frame of the process: report, and end with a failure's exit code
        print(hide_secrets(traceback.format_exc()), file=sys.stderr)  # noqa: T201
        return FAILURE
    return 0


def _end(message: str, code: int) -> int:
    print(hide_secrets(message.replace("\n", " ")), file=sys.stderr)  # noqa: T201
    return code


def parse(config_type: type[Config], arguments: Sequence[str]) -> Config:
    """Make a `config_type` of command-line flags and, where its field `config` names one, of a YAML file.

    A value in the file replaces a flag's default; a flag that differs from its default replaces the file's value.
    MLflow passes every parameter of an entry point on each call, so a default cannot be told from a given value.

    Raises UserError for unknown flags, wrong types and values outside their range.
    """
    arguments = [_with_present_name(argument) for argument in arguments]
    names_file = any(argument.startswith("--config") for argument in arguments)
    if not names_file or not {"--help", "-h"}.isdisjoint(arguments):
        return _parse_flags(config_type, arguments)
    flags = _parse_flags(_unchecked(config_type), arguments)
    if not getattr(flags, "config", ""):
        return _parse_flags(config_type, arguments)
    given = {name: value for name, value, default in _settings(flags) if value != default}
    in_file = {_present_name(name): value for name, value in _read_config_file(Path(flags.config)).items()}
    return _parse_flags(config_type, _flags({**in_file, **given}))


def make(config_type: type[Config], settings: Mapping[str, Any]) -> Config:
    """Make a `config_type` of settings by their flags' names; raises UserError as `parse` does."""
    return _parse_flags(config_type, _flags(settings))


def flatten(config: Any) -> dict[str, Any]:
    """Every setting of a config dataclass by its flag's name, nested dataclasses included."""
    return {name: value for name, value, _ in _settings(config)}


def types_of(config_type: type[Any]) -> dict[str, Any]:
    """Annotated type of every setting by its flag's name, nested dataclasses included."""
    return {name: hint for name, hint, _ in _fields(config_type())}


def command_line(config: Any) -> list[str]:
    """The flags that `parse` turns back into `config`."""
    return _flags({name: value for name, value, default in _settings(config) if value != default})


def _with_present_name(argument: str) -> str:
    """A flag as it is called now; what is no flag stays."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.removeprefix("--").partition("=")
    return f"--{_present_name(name)}{equals}{value}"


def _present_name(name: str) -> str:
    if name not in RENAMED:
        return name
    warn(f"{name} is called {RENAMED[name]} now")
    return RENAMED[name]


def _parse_flags(config_type: type[Config], arguments: Sequence[str]) -> Config:
    parsed: list[Config] = []

    def keep(config: Any) -> None:
        parsed.append(config)

    keep.__annotations__ = {"config": typing.Annotated[config_type, cyclopts.Parameter(name="*")]}
    name = config_type.__name__.removesuffix("Config").lower()
    summary = (config_type.__doc__ or "").partition("\n")[0]
    app = cyclopts.App(name=name, help=summary, version_flags=[], result_action="return_value")
    app.default(_with_default(keep, config_type))
    try:
        app(list(arguments), exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        raise UserError(" ".join(str(error).split())) from error
    if not parsed:  # --help has been printed
        sys.exit(0)
    return parsed[0]


def _unchecked(config_type: type[Any]) -> type[Any]:
    """The same flags and types without the checks of values: a flag may be right only beside the file's values."""
    fields = [(name, hint, dataclasses.field(default=default)) for name, hint, default in _fields(config_type())]
    # Without a module of its own the class counts as one of Python's, which cyclopts does not look into.
    namespace = {"__module__": config_type.__module__}
    return dataclasses.make_dataclass(config_type.__name__, fields, namespace=namespace, frozen=True, kw_only=True)


def _fields(config: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and default of every setting, depth first."""
    hints = typing.get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _fields(value)
        else:
            yield field.name, hints[field.name], field.default


def _with_default(function: Callable[[Any], None], config_type: type) -> Callable[[Any], None]:
    """Cyclopts takes a dataclass that is spread over flags as optional only if its parameter has a default."""
    function.__defaults__ = (config_type(),)
    return function


def _settings(config: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, value and default of every setting, depth first."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _settings(value)
        else:
            yield field.name, value, field.default


def _flags(settings: Mapping[str, Any]) -> list[str]:
    return [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in settings.items()]


def _read_config_file(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path)
    except OSError as error:
        raise UserError(f"config={path} cannot be read ({error}); give a YAML file of `name: value` lines") from error
    except ValueError as error:
        raise UserError(f"config={path} is not YAML: {error}") from error
    if not isinstance(content, dict) or any(
        value is None or isinstance(value, dict | list) for value in content.values()
    ):
        raise UserError(f"config={path} must hold `name: value` lines with the names of the entry point's parameters")
    return content
