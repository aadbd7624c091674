"""Patients who were seen before they are judged on: counted before training, told, and kept for models to come."""

from __future__ import annotations

from pathlib import Path

from radflow.data.dataset.reading import Dataset
from radflow.data.seen_patients import PATIENTS_FILE, Leakage, SeenPatients
from radflow.errors import UserError
from radflow.terminal import warn
from radflow.tracking.run import TrackedRun

LEAKAGE_TAG = "radflow.leakage"
"""Tag of a run that says in words how many patients of the split that it judges its model has seen."""
UNKNOWN_TAG = "radflow.leakage_unknown"
"""Likewise, where there are any: the models before that do not say whom they have seen."""
LEAKAGE_METRIC, VALIDATION_METRIC = "leakage/patients", "leakage/val_patients"


def keep_seen_patients(inherited: SeenPatients | None, dataset: Dataset, folder: Path, run: TrackedRun) -> Leakage:
    """Write into the job's folder whom the model will have seen; log and tell who of them it will be judged on.

    `inherited` are the patients of the initial weights; None where a checkpoint was taken up, whose job has written
    the list.
    """
    before = inherited if inherited is not None else read_seen_patients(folder)
    seen = before | SeenPatients.of_training(dataset)
    seen.write(folder)
    test, validation = seen.leakage(dataset, "test"), seen.leakage(dataset, "val")
    report_leakage(test, "test AUCs will be too high, and promote refuses the model", run)
    run.log_metrics({VALIDATION_METRIC: float(validation.trained)}, step=0)
    if validation.trained:
        of = f"{validation.trained:,} of {validation.patients:,} val patients"
        warn(f"{of} were trained on before; val AUCs, which choose the best epoch, will be too high")
    return test


def report_leakage(leakage: Leakage, consequence: str, run: TrackedRun) -> None:
    """Log how many of the patients that a run judges on were seen, and warn of them with what follows."""
    run.log_metrics({LEAKAGE_METRIC: float(leakage.seen)}, step=0)
    unknown = {UNKNOWN_TAG: ", ".join(leakage.unknown)} if leakage.unknown else {}
    run.set_tags({LEAKAGE_TAG: str(leakage), **unknown})
    if leakage.warning:
        warn(f"{leakage}; {consequence}" if leakage.seen else str(leakage))


def read_seen_patients(folder: Path) -> SeenPatients:
    """The list that a job has written into its folder; unknown where an earlier radflow began it."""
    path = folder / PATIENTS_FILE
    if not path.exists():
        return SeenPatients(unknown=(f"the job in {folder}",))
    try:
        return SeenPatients.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}; restore it, or give resume=none") from error
