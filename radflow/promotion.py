"""Registers the best run of each model family and makes it the family's champion."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import mlflow
import pandas as pd
import yaml
from mlflow.entities import Run, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from rich.table import Table

from radflow.config import flatten
from radflow.data.dataset import open_dataset
from radflow.data.sample import dataset_folder
from radflow.errors import UserError
from radflow.terminal import print_table
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.run import tracking_run

CHAMPION = "champion"


@dataclass(frozen=True, kw_only=True)
class PromoteConfig:
    """Make the best run of a family its champion in the model registry."""

    arch: Literal["all", "densenet121", "vgg16", "resnet50"] = "all"
    """Family to promote; all is every family that has a finished run."""
    data: str = ""
    """Compare runs on this data set; empty is the champion's, or the newest run's where there is none."""
    policy: str = "registry/policy.yaml"
    """YAML file that says which registered models there are and what their champions must show."""


@dataclass(frozen=True)
class Family:
    """A registered model and what its champion must show (registry/policy.yaml)."""

    name: str
    arch: str
    metric: str
    minimum: float


@dataclass(frozen=True)
class Decision:
    """What became of a family's best run."""

    family: Family
    best: Run
    candidates: int
    outcome: str


def promote(config: PromoteConfig) -> list[Decision]:
    """Register and alias the best run of each chosen family, and print what was decided.

    Raises
    ------
    UserError
        No family has a finished run with a model and the metric that its policy names.
    """
    prepare_tracking()
    digest = open_dataset(dataset_folder(config.data)).digest if config.data else None
    families = [family for family in read_policy(Path(config.policy)) if config.arch in ("all", family.arch)]
    with tracking_run(f"promote-{config.arch}", flatten(config)) as run:
        decisions = [decision for family in families if (decision := _promote_family(family, digest))]
        if not decisions:
            raise UserError(
                f"no finished run of arch={config.arch} with a logged model"
                f"{f' on data={config.data}' if config.data else ''}; train one, for example `mlflow run . -e train`"
            )
        rows = _rows(decisions)
        run.log_table(rows, "decisions.json")
    print_table(_table(rows))
    return decisions


def read_policy(path: Path) -> list[Family]:
    """The families of a policy file; raises UserError where it is not as its own comments say."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return [Family(name, **rules) for name, rules in content.items()]
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is not a promotion policy: {' '.join(str(error).split())}") from error


def _promote_family(family: Family, digest: str | None) -> Decision | None:
    champion = _champion_run(family)
    # Without a word from the user, a challenger competes on the champion's data, not on whatever came last.
    if digest is None and champion is not None:
        digest = champion.data.tags["radflow.data_digest"]
    candidates = list(_candidates(family, digest))
    if not candidates:
        return None
    best = max(candidates, key=lambda run: run.data.metrics[family.metric])
    if best.data.metrics[family.metric] < family.minimum:
        return Decision(family, best, len(candidates), f"refused: below the minimum of {family.minimum:.3f}")
    return Decision(family, best, len(candidates), _make_champion(family, best))


def _candidates(family: Family, digest: str | None) -> Iterator[Run]:
    """Finished runs of the family on one data set that have the metric and a model, newest first."""
    client = mlflow.MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments(view_type=ViewType.ACTIVE_ONLY)]
    conditions = f"attributes.status = 'FINISHED' and tags.`radflow.arch` = '{family.arch}'"
    token = None
    while token != "":
        page = client.search_runs(
            experiments, conditions, order_by=["attributes.start_time DESC"], max_results=1000, page_token=token
        )
        for run in page:
            if not run.outputs.model_outputs or not math.isfinite(run.data.metrics.get(family.metric, math.nan)):
                continue
            digest = digest or run.data.tags["radflow.data_digest"]
            if run.data.tags["radflow.data_digest"] == digest:
                yield run
        token = page.token or ""


def _champion_version(family: Family) -> ModelVersion | None:
    try:
        return mlflow.MlflowClient().get_model_version_by_alias(family.name, CHAMPION)
    except MlflowException:  # no such model or no such alias yet
        return None


def _champion_run(family: Family) -> Run | None:
    """The run that the champion comes from, unless it was deleted."""
    version = _champion_version(family)
    if version is None:
        return None
    try:
        return mlflow.get_run(version.run_id)
    except MlflowException:
        return None


def _make_champion(family: Family, run: Run) -> str:
    client = mlflow.MlflowClient()
    source = f"models:/{run.outputs.model_outputs[0].model_id}"
    champion = _champion_version(family)
    if champion is not None and champion.run_id == run.info.run_id:
        return f"version {champion.version} stays {CHAMPION}"
    version = mlflow.register_model(
        source,
        family.name,
        tags={family.metric: f"{run.data.metrics[family.metric]:.4f}", "data": run.data.tags["radflow.data_name"]},
    )
    client.set_registered_model_alias(family.name, CHAMPION, version.version)
    was = f", before it version {champion.version}" if champion else ""
    return f"version {version.version} is {CHAMPION}{was}"


def _rows(decisions: list[Decision]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Model": decision.family.name,
            "Best run": f"{decision.best.info.run_name} ({decision.best.info.run_id[:8]})",
            "Metric": decision.family.metric,
            "Value": f"{decision.best.data.metrics[decision.family.metric]:.4f}",
            "Of runs": str(decision.candidates),
            "Decision": decision.outcome,
        }
        for decision in decisions
    )


def _table(rows: pd.DataFrame) -> Table:
    table = Table(*rows.columns)
    for row in rows.itertuples(index=False):
        table.add_row(*row)
    return table
