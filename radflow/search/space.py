"""The search space as data: a YAML file says which parameters of a training are searched, where, and on what condition.

docs/search.md is its schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial

from radflow.config import flatten
from radflow.errors import UserError
from radflow.files import read_yaml
from radflow.search.config import SearchConfig
from radflow.training.config import DistributedConfig
from radflow.training.job_folder import EXECUTION_SETTINGS

Settings = Mapping[str, Any]
"""Parameters of a training by name."""

PRESETS = Path(__file__).parent / "spaces"
SECTIONS = ("fixed", "baseline", "search")
_RANGE_KEYS = {"low", "high", "step", "log"}

SEARCHABLE = flatten(DistributedConfig()).keys() - flatten(SearchConfig()).keys() - EXECUTION_SETTINGS - {"assess"}
"""Parameters of a training that are not parameters of the search itself."""


@dataclass(frozen=True)
class Domain:
    """The values that a parameter may take while a condition holds."""

    name: str
    """Name of the parameter."""
    label: str
    """What Optuna calls it: domains of one parameter are different dimensions of the search."""
    distribution: BaseDistribution
    when: dict[str, list[Any]]

    def applies(self, settings: Settings) -> bool:
        """Whether each setting that the condition names has one of the values that it lists."""
        return all(settings.get(name) in values for name, values in self.when.items())

    def suggest(self, trial: BaseTrial) -> Any:
        """A value of the trial's; a single choice is no question."""
        match self.distribution:
            case CategoricalDistribution(choices=[only]):
                return only
            case CategoricalDistribution(choices=choices):
                return trial.suggest_categorical(self.label, choices)
            case FloatDistribution(low=low, high=high, step=step, log=log):
                return trial.suggest_float(self.label, low, high, step=step, log=log)
            case IntDistribution(low=low, high=high, step=step, log=log):
                return trial.suggest_int(self.label, low, high, step=step, log=log)
        raise TypeError(f"{self.distribution} is neither a choice nor a range")

    def contains(self, value: Any) -> bool:
        """Whether a value given by a user is one of these."""
        try:
            return bool(self.distribution._contains(self.distribution.to_internal_repr(value)))
        except ValueError:
            return False


@dataclass(frozen=True)
class Space:
    """What is searched."""

    content: dict[str, Any]
    """The YAML file's, from which `parse_space` makes the same space again."""
    fixed: dict[str, Any]
    domains: dict[str, list[Domain]]
    """Choices by parameter, in the order in which they are decided."""
    baseline: list[dict[str, Any]]

    def suggest(self, trial: BaseTrial, given: Settings) -> dict[str, Any]:
        """Let Optuna decide every parameter that applies; `given` is what all trainings of the search share."""
        chosen: dict[str, Any] = {}
        for name in self.domains:
            domain = self._domain(name, {**given, **self.fixed, **chosen})
            if domain is not None:
                chosen[name] = domain.suggest(trial)
        return chosen

    def baseline_params(self, given: Settings) -> list[dict[str, Any]]:
        """The baseline settings under Optuna's labels.

        Raises UserError where an entry lacks a parameter that applies, or has a value outside the space.
        """
        return [self._labelled(entry, given) for entry in self.baseline]

    def _domain(self, name: str, settings: Settings) -> Domain | None:
        return next((domain for domain in self.domains[name] if domain.applies(settings)), None)

    def _labelled(self, entry: Settings, given: Settings) -> dict[str, Any]:
        if strangers := entry.keys() - self.domains.keys():
            raise UserError(
                f"space: {', '.join(sorted(strangers))} of the baseline {dict(entry)} is not searched; "
                "add it to `search` or leave it out"
            )
        labelled = {}
        for name in self.domains:
            domain = self._domain(name, {**given, **self.fixed, **entry})
            if domain is None:
                continue
            match domain.distribution:
                case CategoricalDistribution(choices=[only]) if name not in entry or entry[name] == only:
                    continue
            if name not in entry:
                raise UserError(f"space: the baseline {dict(entry)} lacks {name}; give it a value")
            value = _number(entry[name])
            if not domain.contains(value):
                raise UserError(f"space: {name}={value} of the baseline is outside {domain.distribution}")
            labelled[domain.label] = value
        return labelled


def read_space(name: str) -> Space:
    """The preset or the YAML file called `name`; raises UserError where it is not as docs/search.md says."""
    preset = PRESETS / f"{name}.yaml"
    path = preset if preset.exists() else Path(name)
    if not path.is_file():
        presets = " or ".join(sorted(file.stem for file in PRESETS.glob("*.yaml")))
        given = f"space={name} is neither {presets} nor a file at {path.absolute()}"
        raise UserError(f"{given}; give one of them (schema: docs/search.md)")
    try:
        content = read_yaml(path)
    except (OSError, ValueError) as error:
        raise UserError(f"space={name} is not YAML: {error}") from error
    return parse_space(content)


def parse_space(content: Any) -> Space:
    """Make a space of a YAML file's content; raises UserError, naming the section and the entry."""
    if not isinstance(content, dict) or not content.keys() <= set(SECTIONS) or not content.get("search"):
        raise UserError(f"space: expected the sections {', '.join(SECTIONS)}, of which search must not be empty")
    fixed, baseline = content.get("fixed") or {}, content.get("baseline") or []
    if not isinstance(content["search"], dict) or not isinstance(fixed, dict) or not isinstance(baseline, list):
        raise UserError("space: `fixed` and `search` map parameters to values, `baseline` lists such maps")
    if not all(isinstance(entry, dict) for entry in baseline):
        raise UserError("space: each entry of `baseline` must be `{parameter: value, ...}`")
    for name in [*fixed, *content["search"]]:
        if name not in SEARCHABLE:
            raise UserError(
                f"space: {name} cannot be searched or fixed here; expected one of {', '.join(sorted(SEARCHABLE))}"
            )
    domains: dict[str, list[Domain]] = {}
    for name, described in content["search"].items():
        domains[name] = list(_domains(name, described, {*flatten(SearchConfig()), *fixed, *domains}))
    return Space(content, fixed, domains, baseline)


def _domains(name: str, described: Any, known: set[str]) -> Iterator[Domain]:
    alternatives = described if isinstance(described, list) else [described]
    for alternative in alternatives:
        if not isinstance(alternative, dict):
            raise UserError(f"space: {name} must be {{choices: [...]}} or {{low: ..., high: ...}}, got {alternative!r}")
        values = dict(alternative)
        when = values.pop("when", {})
        if not isinstance(when, dict) or not all(isinstance(listed, list) for listed in when.values()):
            raise UserError(f"space: `when` of {name} must be {{parameter: [values]}}, got {when!r}")
        if strangers := when.keys() - known:
            raise UserError(
                f"space: `when` of {name} names {', '.join(sorted(strangers))}, which is not decided before it; "
                "put that parameter above"
            )
        label = name
        if len(alternatives) > 1:
            label += f" ({'|'.join(str(value) for listed in when.values() for value in listed)})"
        yield Domain(name, label, _distribution(name, values), when)


def _distribution(name: str, values: dict[str, Any]) -> BaseDistribution:
    """Choices, or a range: of whole numbers where low, high and step are whole, and else of floats."""
    try:
        if values.keys() == {"choices"}:
            return CategoricalDistribution(values["choices"])
        if not {"low", "high"} <= values.keys() <= _RANGE_KEYS:
            raise ValueError(f"got {values}")
        numbers = {key: _number(value) for key, value in values.items() if key != "log"}
        log = bool(values.get("log", False))
        if all(isinstance(number, int) for number in numbers.values()):
            return IntDistribution(log=log, **numbers)
        return FloatDistribution(log=log, **numbers)
    except (TypeError, ValueError, ArithmeticError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"space: {name} is neither {{choices: [...]}} nor {{low, high, step, log}}: {reason}"
        ) from error


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-5, which lacks a point, as a text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
