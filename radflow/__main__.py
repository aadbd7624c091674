"""`python -m radflow`: the entry points of MLproject, and the tools beside them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter

from radflow.commands import SETTINGS, TOOLS, run_entry_point, settings_of
from radflow.config import exit_code_of
from radflow.errors import JobError, UserError

app = cyclopts.App(name="radflow", help="Training of radiology classifiers: entry points of MLproject, and tools.")


@app.command
def doctor() -> None:
    """Print what is installed and able, and what is missing with its fix."""
    from radflow.commands.doctor import examine, print_report

    diagnostics = examine()
    print_report(diagnostics)
    if any(diagnostic.fix for diagnostic in diagnostics):
        raise JobError("something is missing; the fixes are in the table above")


@app.command
def build() -> None:
    """Compile the native operations, with which training is faster, for this environment; print where they are."""
    from radflow.native.library import build as compile_operations

    sys.stdout.write(f"{compile_operations()}\n")


@app.command
def register() -> None:
    """Let plain `mlflow run` use this Python environment for this project, and print where MLflow finds it."""
    from radflow.tracking.project_environment import register_environment

    sys.stdout.write(f"{register_environment(Path.cwd(), Path(sys.prefix))}\n")


@app.command
def plan(
    *,
    entry_point: Annotated[
        Literal["distributed", "train", "transfer", "study"], Parameter(name=("--entry-point", "-e"))
    ] = "distributed",
    parameters: Annotated[tuple[str, ...], Parameter(name="-P", negative=())] = (),
) -> None:
    """Print what a training or a study would do, and what it would cost, without starting it.

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


@app.command
def compare(*runs: str, out: Path = Path("comparison.html")) -> None:
    """Compare runs on the same films: AUC by finding, loss by epoch, speed, and paired tests with Holm's correction.

    Parameters
    ----------
    runs
        Ids of trainings or evaluations that have finished.
    out
        Page to write, with figures; it needs no network.
    """
    from radflow.commands.compare import compare as compare_runs

    compare_runs(runs, out)


@app.command
def repeat(run: str, *, out: Path = Path("runs")) -> None:
    """Train again as a finished run was trained, from its own settings and data, and compare the metrics.

    Parameters
    ----------
    run
        Id of a training.
    out
        Folder in which the job makes its own.
    """
    from radflow.commands.repeat import repeat as repeat_run

    repeat_run(run, out)


@app.command
def claims(*, out: Path | None = None) -> None:
    """Collect the verdicts of all studies that have finished, the newest of each, into one table.

    Parameters
    ----------
    out
        Markdown file to write the table to as well.
    """
    from radflow.commands.claims import claims as collect_claims

    collect_claims(out)


@app.command
def export(
    model: str, *, kind: Annotated[str, Parameter(name="--format")] = "onnx", out: Path = Path("exported")
) -> None:
    """Write a model for other programs: ONNX, or TensorFlow's SavedModel, held to its golden film.

    Parameters
    ----------
    model
        Any MLflow model URI of a model that radflow trained, or its folder.
    kind
        onnx or saved_model.
    out
        New folder for the model and what it says of itself.
    """
    from radflow.commands.export import export as export_model

    export_model(model, kind, out)


data = cyclopts.App(name="data", help="Datasets on disk.")
app.command(data)


@data.command
def show(path: Path, out: Path | None = None, seed: int = 0) -> None:
    """Check every hash of a dataset, print what is in it, and draw contact sheets and figures of its findings.

    Parameters
    ----------
    path
        Dataset made by `preprocess`.
    out
        Folder for the pictures; unless given it stands beside the dataset, with -figures after its name.
    seed
        Chooses the films that the contact sheets show.
    """
    from radflow.commands.show import show_dataset

    if seed < 0:
        raise UserError(f"seed={seed} must be 0 or positive")
    whole = path.resolve()
    show_dataset(path, out or whole.with_name(f"{whole.name}-figures"), seed)


def main() -> None:
    """Run a tool; one line and exit code 2 for a mistake."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in {*app} - {"--help", "-h"}:  # the help, or what is unknown
        _list_entry_points()
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        raise UserError(" ".join(str(error).split())) from error


def _list_entry_points() -> None:
    """Let the help name the entry points, which are run by their settings and not by this app."""
    for name in (*SETTINGS, *TOOLS):
        summary = (settings_of(name).__doc__ or "").partition("\n")[0]
        app.command(cyclopts.App(name=name, help=summary, group="Entry points" if name in SETTINGS else "Commands"))


def run() -> int:
    """Exit code of the command that the process was started with."""
    if sys.argv[1:] and sys.argv[1] in {*SETTINGS, *TOOLS}:
        return run_entry_point(sys.argv[1], sys.argv[2:])
    return exit_code_of(main)


if __name__ == "__main__":
    sys.exit(run())
