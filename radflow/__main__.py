"""`python -m radflow`: what is not an entry point of MLproject."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter

from radflow.config import exit_code_of
from radflow.errors import JobError, UserError

app = cyclopts.App(name="radflow", help="radflow's own commands; jobs are started with `mlflow run . -e ENTRY`.")


@app.command
def doctor() -> None:
    """Print what is installed and able, and what is missing with the mend."""
    from radflow.commands.doctor import examine, print_report

    findings = examine()
    print_report(findings)
    if any(finding.mend for finding in findings):
        raise JobError("something is missing; the mends are in the table above")


@app.command
def register() -> None:
    """Let plain `mlflow run` use this Python environment for this project, and print where MLflow finds it."""
    from radflow.tracking.project_environment import register_environment

    sys.stdout.write(f"{register_environment(Path.cwd(), Path(sys.prefix))}\n")


@app.command
def plan(
    *,
    entry_point: Annotated[Literal["distributed", "train", "transfer"], Parameter(name=("--entry-point", "-e"))] = (
        "distributed"
    ),
    parameters: Annotated[tuple[str, ...], Parameter(name="-P", negative=())] = (),
) -> None:
    """Print what a training would do, and what it would cost in time and accuracy, without starting it.

    Parameters
    ----------
    entry_point
        What would be run.
    parameters
        name=value, as for `mlflow run`; may be given several times.
    """
    from radflow.commands.plan import print_plan

    print_plan(entry_point, parameters)


@app.command
def sync(folder: Path | None = None, *, to: str | None = None) -> None:
    """Send what runs could not log while the MLflow server was away.

    Parameters
    ----------
    folder
        Spool folder; the one that runs use unless given.
    to
        Tracking URI to send to; each run's own unless given.
    """
    from radflow.terminal import say
    from radflow.tracking.connection import prepare_tracking
    from radflow.tracking.spool import SPOOL_FOLDER
    from radflow.tracking.sync import sync_spool

    prepare_tracking()
    say(f"{sync_spool(folder or SPOOL_FOLDER, to)} records sent")


data = cyclopts.App(name="data", help="Data sets on disk.")
app.command(data)


@data.command
def show(path: Path, out: Path | None = None, seed: int = 0) -> None:
    """Check every hash of a data set, print what is in it, and draw contact sheets and figures of its findings.

    Parameters
    ----------
    path
        Data set made by `preprocess`.
    out
        Folder for the pictures; unless given it stands beside the data set, with -figures after its name.
    seed
        Of the films that the contact sheets show.
    """
    from radflow.plots.overview import show_dataset

    if seed < 0:
        raise UserError(f"seed={seed} must be 0 or positive")
    whole = path.resolve()
    show_dataset(path, out or whole.with_name(f"{whole.name}-figures"), seed)


def main() -> None:
    """Run a command; one line and exit code 2 for a mistake."""
    try:
        app(sys.argv[1:], exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        raise UserError(" ".join(str(error).split())) from error


def run() -> int:
    """Exit code of the command that the process was started with."""
    return exit_code_of(main)


if __name__ == "__main__":
    sys.exit(run())
