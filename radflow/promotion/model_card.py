"""The model card of a registered version, written from the template registry/model_card.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from string import Template

from mlflow.entities import Run

from radflow.data.tasks import BREAST, CHEST, MAMMO
from radflow.errors import UserError
from radflow.evaluation.auc import FindingAuc, auc_per_finding, mean_auc, mean_auc_interval
from radflow.evaluation.predictions import Predictions
from radflow.plots.report import RESEARCH_ONLY, auc_markdown
from radflow.plots.tables import escaped, markdown_row, markdown_table
from radflow.promotion.judgement import Judgement

PLACES = (
    "name",
    "version",
    "research_only",
    "task_in_words",
    "decision",
    "data",
    "splits",
    "training",
    "mean_auc",
    "mean_interval",
    "images",
    "findings",
    "rules",
    "limits",
)
"""What a template may name; `research_only` it must."""

RULE_HEADINGS = ("Rule", "Asked", "Seen", "Passed")
"""What is told of each rule of a judgement."""

FEW_POSITIVES = 30
"""Below so many positive test films a finding's AUC is known too poorly to rely on."""

_TASKS = {
    CHEST: "Gives probabilities of findings on frontal chest films.",
    MAMMO: "Gives the probability that a crop of a mammogram shows a tumour, benign or malignant.",
    BREAST: "Gives probabilities of findings in the breast that a mammogram shows.",
}
_TRAINING_PARAMS = (
    ("arch", "architecture"),
    ("norm", "normalisation"),
    ("weights", "initial weights"),
    ("image_size", "pixels a side"),
    ("optimizer", "optimiser"),
    ("peak_lr", "learning rate"),
    ("effective_gbz", "global batch"),
    ("loss", "loss"),
    ("epochs", "epochs"),
    ("seed", "seed"),
    ("version_radflow", "radflow"),
)


def read_template(path: Path) -> Template:
    """Read a template; raises UserError where it names an unknown place or leaves out that a model is no device."""
    try:
        template = Template(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"card={path} cannot be read ({error}); give a template of a model card") from error
    if not template.is_valid():
        raise UserError(f"card={path} has a $ that starts no place; write $$ for a dollar sign")
    unknown = sorted(set(template.get_identifiers()) - set(PLACES))
    if unknown:
        raise UserError(f"card={path} names the unknown place ${unknown[0]}; expected ${', $'.join(PLACES)}")
    if "research_only" not in template.get_identifiers():
        raise UserError(f"card={path} must name $research_only: {RESEARCH_ONLY}")
    return template


def write_card(
    template: Template, name: str, version: str, decision: str, run: Run, tested: Predictions, judgement: Judgement
) -> str:
    """Fill the template in with a run's data, training and test results, and with what it was held to."""
    results = auc_per_finding(tested)
    low, high = mean_auc_interval(tested)
    return template.substitute(
        name=name,
        version=version,
        research_only=RESEARCH_ONLY,
        task_in_words=task_in_words(name),
        decision=escaped(decision),
        data=data_in_words(run),
        splits=_splits(run),
        training=training_in_words(run),
        mean_auc=f"{mean_auc(results):.3f}",
        mean_interval=f"{low:.3f} to {high:.3f}",
        images=f"{len(tested):,}",
        findings=auc_markdown(results),
        rules=rules_markdown(judgement),
        limits=_limits(results, run.data.params),
    )


def task_in_words(name: str) -> str:
    """What a registered model of this name is for."""
    task = name.split("-")[1]
    return _TASKS.get(task, f"Gives probabilities of the findings of its task, {task}.")


def rules_markdown(judgement: Judgement) -> str:
    """A table of the rules: asked, seen, passed."""
    rows = [(check.rule, escaped(check.asked), escaped(check.seen), check.result) for check in judgement.checks]
    return markdown_table(RULE_HEADINGS, rows)


def data_in_words(run: Run) -> str:
    """Name, split and digest of the dataset that a run was trained on."""
    tags, params = run.data.tags, run.data.params
    split = params.get("cfg/data_split", "not recorded")
    return (
        f"{escaped(tags.get('radflow.data_name', 'unnamed'))}, split: {escaped(split)}. "
        f"SHA-256 of its manifest, which covers films, labels and split: `{tags.get('radflow.data_digest', '')}`"
    )


def _splits(run: Run) -> str:
    """Rows of images and patients by split, from the datasets that the run logged."""
    rows = []
    for item in run.inputs.dataset_inputs:
        profile = json.loads(item.dataset.profile or "{}")
        split = item.dataset.name.rpartition("/")[2]
        counts = (f"{profile.get(unit, 0):,}" for unit in ("films", "patients"))
        rows.append(markdown_row([escaped(split), *counts]))
    return "\n".join(rows)


def training_in_words(run: Run) -> str:
    """How a run was trained, and its name in MLflow."""
    params = run.data.params
    told = [f"{words} {escaped(params[f'cfg/{key}'])}" for key, words in _TRAINING_PARAMS if f"cfg/{key}" in params]
    commit = run.data.tags.get("mlflow.source.git.commit", "")
    of_commit = f", commit {commit[:12]}" if commit else ""
    return f"{'; '.join(told)}. MLflow run {escaped(run.info.run_name)}, `{run.info.run_id}`{of_commit}."


def _limits(results: Mapping[str, FindingAuc], params: Mapping[str, str]) -> str:
    lines = []
    few = [f"{escaped(finding)} ({result.positives})" for finding, result in results.items() if _is_rare(result)]
    if few:
        lines.append(f"- Fewer than {FEW_POSITIVES} positive test images, so hardly measured: {', '.join(few)}.")
    if params.get("cfg/data_split", "").startswith("random"):
        lines.append("- A random split of patients: results on ChestX-ray14's official test list are lower.")
    return "\n".join(lines)


def _is_rare(result: FindingAuc) -> bool:
    return result.positives < FEW_POSITIVES
