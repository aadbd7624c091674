"""The MLflow run of a study or of one of its trainings, kept in its folder, so that the same command goes on in it."""

from __future__ import annotations

import json
from pathlib import Path

from radflow.errors import UserError
from radflow.files import atomic_file, read_json
from radflow.tracking.run import resume_run

RUN_FILE = "study.json"


def remembered_run(folder: Path) -> str | None:
    """Id of the run of this folder, if there is one; raises UserError where it cannot be read."""
    path = folder / RUN_FILE
    if not path.exists():
        return None
    try:
        return str(read_json(path)["run_id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it to begin anew in another run") from error


def resume_remembered(folder: Path) -> None:
    """Let the next `tracking_run` go on in the run of this folder, if there is one."""
    if run_id := remembered_run(folder):
        resume_run(run_id)


def remember_run(folder: Path, run_id: str) -> None:
    """Keep the run in the folder, which is made where it is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / RUN_FILE) as temporary:
        temporary.write_text(json.dumps({"run_id": run_id}) + "\n", encoding="utf-8")
