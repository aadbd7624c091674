"""The promotion policy, registry/policy.yaml: which registered models there are, and what a champion must show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from radflow.data.tasks import is_task
from radflow.errors import UserError
from radflow.files import read_yaml
from radflow.models.backbones import ARCHITECTURES

VERSION = 2
BETTER, NOT_WORSE = "better", "not_worse"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a family's champion must show; the policy file explains each."""

    minimum_auc: float
    same_data: bool
    against_champion: str
    """`better` or `not_worse`"""
    margin: float
    confidence: float
    golden_image: bool
    unseen_patients: bool = True
    largest_gap: float = 1.0


@dataclass(frozen=True)
class Family:
    """A registered model, and the rules for its champion."""

    name: str
    task: str
    arch: str
    rules: Rules


_ALLOWED: dict[str, tuple[str, Any]] = {
    "minimum_auc": ("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1),
    "same_data": ("true or false", lambda value: isinstance(value, bool)),
    "against_champion": (f"{BETTER} or {NOT_WORSE}", lambda value: value in (BETTER, NOT_WORSE)),
    "margin": ("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1),
    "confidence": ("a number from 0.5 to 0.999", lambda value: _is_number(value) and 0.5 <= value <= 0.999),
    "largest_gap": ("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1),
    "golden_image": ("true or false", lambda value: isinstance(value, bool)),
    "unseen_patients": ("true or false", lambda value: isinstance(value, bool)),
}


def read_policy(path: Path) -> list[Family]:
    """The families of a policy file; raises UserError, naming the key, where it is not as its own comments say."""
    content = _mapping(_load(path), path, "the file")
    if content.get("version") != VERSION:
        given = f"has version {content['version']!r}" if "version" in content else "has no key 'version'"
        raise UserError(f"{path} {given}; expected version: {VERSION}, with the keys defaults and families")
    _only(content, ("version", "defaults", "families"), path, "the file")
    defaults = _rules(content.get("defaults"), path, "defaults")
    families = _mapping(content.get("families"), path, "families")
    if not families:
        _refuse(path, "families", "names no family; expected for example radflow-chest-densenet121: {}")
    return [_family(str(name), rules, defaults, path) for name, rules in families.items()]


def _load(path: Path) -> Any:
    try:
        return read_yaml(path)
    except OSError as error:
        raise UserError(f"policy={path} cannot be read ({error}); give a promotion policy in YAML") from error
    except ValueError as error:
        raise UserError(f"policy={path} is not YAML: {error}") from error


def _family(name: str, own: Any, defaults: Mapping[str, Any], path: Path) -> Family:
    key = f"families.{name}"
    prefix, _, rest = name.partition("-")
    task, _, arch = rest.partition("-")
    if prefix != "radflow" or not is_task(task) or arch not in ARCHITECTURES:
        expected = f"radflow-<task, such as chest>-<{', '.join(ARCHITECTURES)}>"
        _refuse(path, key, f"is not a name of a family; expected {expected}")
    rules = {**defaults, **_rules(own, path, key)}
    missing = [field.name for field in fields(Rules) if field.name not in rules and field.default is MISSING]
    if missing:
        _refuse(path, key, f"has no {missing[0]}; give it there or under defaults: {_ALLOWED[missing[0]][0]}")
    if rules["against_champion"] == BETTER and rules["margin"] != 0:
        _refuse(path, key, f"has margin {rules['margin']} with against_champion {BETTER}; expected 0, or {NOT_WORSE}")
    return Family(name, task, arch, Rules(**rules))


def _rules(content: Any, path: Path, key: str) -> dict[str, Any]:
    rules = _mapping(content, path, key)
    _only(rules, tuple(_ALLOWED), path, key)
    for name, value in rules.items():
        expected, is_allowed = _ALLOWED[name]
        if not is_allowed(value):
            _refuse(path, f"{key}.{name}", f"is {value!r}; expected {expected}")
    return rules


def _mapping(content: Any, path: Path, key: str) -> dict[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, dict):
        _refuse(path, key, f"is {content!r:.60}; expected `name: value` lines")
    return content


def _only(content: Mapping[str, Any], known: tuple[str, ...], path: Path, key: str) -> None:
    for name in content:
        if name not in known:
            _refuse(path, key, f"has the unknown key {name!r}; expected {', '.join(known)}")


def _refuse(path: Path, key: str, reason: str) -> NoReturn:
    raise UserError(f"{path}: {key} {reason}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
