"""A reporting checklist (TRIPOD+AI, CLAIM) of a registered version, filled in as far as the run knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from string import Template

import numpy as np
from mlflow.entities import Run

from radflow.evaluation.auc import auc_per_finding, mean_auc, mean_auc_interval
from radflow.evaluation.predictions import Predictions
from radflow.evaluation.subgroups import evaluate_subgroups, known_columns, largest_deficit
from radflow.plots.report import RESEARCH_ONLY
from radflow.plots.tables import escaped
from radflow.promotion.model_card import data_in_words, task_in_words, training_in_words
from radflow.registry_files import registry_file
from radflow.training.leakage import LEAKAGE_TAG

TEMPLATE_FILE = "reporting_checklist.md"


def write_checklist(name: str, version: str, run: Run, tested: Predictions) -> str:
    """Fill the items in that the run and its test predictions know; the others say what is to be written."""
    params, tags = run.data.params, run.data.tags
    results = auc_per_finding(tested)
    low, high = mean_auc_interval(tested)
    template = Template(registry_file(TEMPLATE_FILE).read_text(encoding="utf-8"))
    return template.substitute(
        name=name,
        version=version,
        research_only=RESEARCH_ONLY,
        task_in_words=task_in_words(name),
        data=data_in_words(run),
        participants=_participants(tested),
        image_size=params.get("cfg/image_size", "the dataset's"),
        rejected="Films that could not be read are listed in rejected.csv of the dataset.",
        findings_list=escaped(", ".join(tested.findings)),
        sizes=_sizes(run),
        unknown=_unknown(tested),
        training=training_in_words(run),
        split=escaped(params.get("cfg/data_split", "not recorded")),
        imbalance=_imbalance(params),
        fairness=_fairness(tested),
        leakage=escaped(tags.get(LEAKAGE_TAG, "patients seen in training were not counted")),
        radflow=escaped(params.get("cfg/version_radflow", "not recorded")),
        run_id=run.info.run_id,
        mean_auc=f"{mean_auc(results):.3f}",
        mean_interval=f"{low:.3f} to {high:.3f}",
        images=f"{len(tested):,}",
        weights=escaped(params.get("cfg/weights", "not recorded")),
    )


def _participants(tested: Predictions) -> str:
    """Sex and age of the test films, as far as they are known."""
    sexes = [f"{name} {int((tested.sexes == code).sum()):,}" for code, name in (("F", "women"), ("M", "men"))]
    ages = tested.ages[tested.ages >= 0]
    age = f"; ages {ages.min()} to {ages.max()}, median {np.median(ages):.0f}" if len(ages) else ""
    return f"Films of the test split by sex: {', '.join(sexes)}{age}."


def _sizes(run: Run) -> str:
    told = []
    for item in run.inputs.dataset_inputs:
        profile = json.loads(item.dataset.profile or "{}")
        split = item.dataset.name.rpartition("/")[2]
        told.append(f"{escaped(split)} {profile.get('films', 0):,} of {profile.get('patients', 0):,} patients")
    return f"Images: {'; '.join(told) or 'not recorded'}."


def _unknown(tested: Predictions) -> str:
    share = float((~tested.known).mean()) if tested.known.size else 0.0
    return (
        f"{share:.1%} of the labels of test films are not known; such labels teach nothing and are not counted. Films "
        "themselves are never imputed"
    )


def _imbalance(params: Mapping[str, str]) -> str:
    return (
        f"Loss {escaped(params.get('cfg/loss', 'not recorded'))}, positive weights "
        f"{escaped(params.get('cfg/pos_weight', 'not recorded'))}; nothing is resampled"
    )


def _fairness(tested: Predictions) -> str:
    subgroups = evaluate_subgroups(tested, tested, None, known_columns(tested))
    worst = largest_deficit(subgroups)
    if worst is None:
        return f"none of {len(subgroups)} subgroups has a lower mean AUC than the rest, beyond chance."
    return f"the largest gap in mean AUC is {worst.auc_difference} ({worst.column} {escaped(worst.value)})."
