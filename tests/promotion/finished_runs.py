"""Finished runs that promotion can choose from, made without training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from scipy import stats

from radflow.evaluation.predictions import Predictions, write_predictions

REPOSITORY = Path(__file__).resolve().parent.parent.parent
FINDINGS = ("Mass", "Hernia")
FILMS = 400


def predictions(skill: float, films: int = FILMS, seed: int = 0) -> Predictions:
    """What a model of this skill says of the test films, two a patient; the films are the same for one seed."""
    generator = np.random.default_rng(seed)
    labels = generator.random((films, len(FINDINGS))) < (0.4, 0.05)
    hardness = generator.normal(size=labels.shape)
    scores = stats.norm.cdf(skill * labels + hardness)
    ids = [f"{seed}-{film:04d}" for film in range(films)]
    patients = [f"{film // 2}" for film in range(films)]
    return Predictions(FINDINGS, ids, patients, ["test"] * films, labels, scores)


def finished_run(
    client: MlflowClient,
    skill: float = 1.0,
    arch: str = "vgg16",
    task: str = "chest",
    digest: str = "d" * 64,
    validation: float | None = None,
    tested: Predictions | None = None,
    leakage: Mapping[str, float] = {"leakage/patients": 0},
    unknown: str = "",
) -> str:
    """Id of a finished run with a model and, unless it has no films, the predictions file.

    `leakage` counts the patients whom it has seen before, `unknown` names weights that do not say whom they have seen.
    """
    experiment_id = "0"
    tags = {
        "radflow.arch": arch,
        "radflow.task": task,
        "radflow.data_digest": digest,
        "radflow.data_name": "phantom_films",
    }
    run_id = client.create_run(experiment_id, run_name=f"{arch} of skill {skill}", tags=tags).info.run_id
    for key, value in {"arch": arch, "epochs": 3, "data_split": "official, seed 0", "optimizer": "adam"}.items():
        client.log_param(run_id, f"cfg/{key}", value)
    client.log_metric(run_id, "best/val_auc", skill / 10 if validation is None else validation)
    for key, count in leakage.items():
        client.log_metric(run_id, key, count)
    if unknown:
        client.set_tag(run_id, "radflow.leakage_unknown", unknown)
    if tested is None or len(tested):
        file = Path("predictions.parquet")
        write_predictions(file, tested or predictions(skill))
        client.log_artifact(run_id, str(file), "predictions")
    model = client.create_logged_model(experiment_id, name="model", source_run_id=run_id)
    client.log_outputs(run_id, models=[LoggedModelOutput(model.model_id, step=0)])
    client.finalize_logged_model(model.model_id, "READY")
    client.set_terminated(run_id)
    return run_id


def write_policy(path: Path, families: tuple[str, ...] = ("radflow-chest-vgg16",), **rules: object) -> Path:
    """The policy of the repository for some families, with other rules; models are not loaded, for there are none."""
    policy = yaml.safe_load((REPOSITORY / "registry/policy.yaml").read_text())
    policy["defaults"] |= {"golden_image": False, **rules}
    policy["families"] = {name: {} for name in families}
    path.write_text(yaml.safe_dump(policy))
    return path
