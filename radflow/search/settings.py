"""Settings of the trainings of a search: what all share, and what a trial adds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FixedTrial

from radflow.cluster.batch_plan import plan_batches
from radflow.cluster.hosts import Host, choose_ranks, parse_hosts
from radflow.config import flatten, make
from radflow.data.dataset.reading import Dataset
from radflow.search.config import AUTO, SearchConfig
from radflow.search.space import Space
from radflow.training.config import DistributedConfig
from radflow.training.job_folder import EXECUTION_SETTINGS

_DEFINING = ("gbz", "arch", "weights", "epochs", "seed")
_DRAWS = 40
"""Settings drawn to find mistakes in a space; one value of six is missed in one space of 1,500."""


def shared_settings(config: SearchConfig) -> dict[str, Any]:
    """The parameters of the search that are parameters of each training too."""
    searched, trained = flatten(config), flatten(DistributedConfig())
    return {name: value for name, value in searched.items() if name in trained and name not in ("out", "config")}


def trial_config(config: SearchConfig, space: Space, chosen: Mapping[str, Any], out: Path) -> DistributedConfig:
    """The training of a trial: no test films and no model, since trials are compared on validation films.

    Raises UserError where the space has led to parameters that do not go together.
    """
    return make(
        DistributedConfig, {**shared_settings(config), **space.fixed, **chosen, "out": str(out), "assess": False}
    )


def settings_to_repeat(config: DistributedConfig) -> dict[str, Any]:
    """The parameters that make the same model again on any machine, as `distributed` takes them from a file."""
    defaults = flatten(DistributedConfig())
    settings = {name: value for name, value in flatten(config).items() if name not in EXECUTION_SETTINGS | {"assess"}}
    return {name: value for name, value in settings.items() if value != defaults[name] or name in ("data", *_DEFINING)}


def definition(config: SearchConfig, space: Space, dataset: Dataset) -> dict[str, Any]:
    """What makes the trials of a study comparable: with another value it is another study."""
    defining = {name: value for name, value in flatten(config).items() if name in _DEFINING}
    return {**defining, "data_digest": dataset.digest, "space": space.content}


def study_name(config: SearchConfig, defined: Mapping[str, Any]) -> str:
    """The name that the user gave, or one made of the definition."""
    if config.study != AUTO:
        return config.study
    digest = hashlib.sha256(json.dumps(defined, sort_keys=True).encode()).hexdigest()[:8]
    return f"{config.arch}-gbz{config.gbz}-{Path(config.space).stem}-{digest}"


def check_settings(config: SearchConfig, space: Space) -> None:
    """Raise UserError where the baseline, or settings drawn at random, are no training, before a trial meets them."""
    shared = shared_settings(config)
    random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=config.seed))
    baseline = [FixedTrial(params) for params in space.baseline_params(shared)]
    for trial in (*baseline, *(random.ask() for _ in range(_DRAWS))):
        trial_config(config, space, space.suggest(trial, shared), Path(config.out))


def check_ranks(config: SearchConfig, dataset: Dataset, cores: int) -> None:
    """Raise UserError unless the ranks of a worker of that many cores can share the global batch."""
    hosts = parse_hosts(config.hosts) if config.hosts else [Host("localhost", cores)]
    plan_batches(config.gbz, 1, choose_ranks(config.np, hosts, config.gbz), len(dataset.split("train")))
