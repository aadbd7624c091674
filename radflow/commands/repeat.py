"""`python -m radflow repeat`: a training run again as it was, and its metrics held against the first ones."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

from radflow.commands.distributed import distributed
from radflow.commands.train import train
from radflow.config import make
from radflow.data.sample import open_data
from radflow.errors import JobError, UserError
from radflow.evaluation.comparison import compare_paired
from radflow.plots.tables import terminal_table
from radflow.terminal import print_table, say, warn
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.finished_runs import FinishedRun, fetch_artifact, finished_run
from radflow.tracking.run import create_run, resume_run
from radflow.training.assessment import predictions_of_run
from radflow.training.config import DistributedConfig
from radflow.training.record import (
    CONFIG_FILE,
    ENTRY_TAG,
    ENVIRONMENT_FILE,
    RecordedStart,
    installed_packages,
    package_changes,
    read_start,
)

REPEATS_TAG = "radflow.repeats"
"""Tag of a run that repeats another: its id."""
JUDGED = ("train/loss", "val/loss", "val/auc/", "test/", "best/")
"""Beginnings of the metrics that a repeat should give again; speed and memory are the machine's."""


def repeat(run_id: str, out: Path) -> str:
    """Train again by a run's own settings, in a run of its own whose id is returned, and compare the metrics.

    A deterministic run must give every metric to the last bit. Of others the largest differences are told, with a
    paired test of the AUCs.

    Raises
    ------
    UserError
        The run has not finished or did not record its settings, or its data is gone or another.
    JobError
        A deterministic run came out otherwise.
    """
    prepare_tracking()
    first = finished_run(run_id)
    start = _recorded(first)
    _check_data(first, start)
    for change in package_changes(start.packages, installed_packages()):
        warn(f"the run had {change}")
    config = make(start.config, {**start.settings, "out": str(out), "resume": "none"})
    new_id = create_run(f"repeat-{first.name}", {REPEATS_TAG: run_id})
    resume_run(new_id)
    if isinstance(config, DistributedConfig):
        distributed(config)
    else:
        train(config)
    _hold_against(first, finished_run(new_id), is_deterministic=config.deterministic)
    return new_id


def _recorded(run: FinishedRun) -> RecordedStart:
    if ENTRY_TAG not in run.tags:
        raise UserError(f"run {run.run_id} did not record how it was started; only trainings of this radflow do")
    with tempfile.TemporaryDirectory(prefix="radflow-repeat-") as folder:
        files = [fetch_artifact(run.run_id, name, Path(folder)) for name in (CONFIG_FILE, ENVIRONMENT_FILE)]
        return read_start(run.tags[ENTRY_TAG], *files)


def _check_data(run: FinishedRun, start: RecordedStart) -> None:
    data = str(start.settings.get("data"))
    now, before = open_data(data).digest, run.tags.get("radflow.data_digest", "")
    if now != before:
        raise UserError(
            f"data={data} has changed since run {run.run_id[:8]}: its manifest has SHA-256 {now[:12]}, the run's was "
            f"{before[:12]}; bring back that dataset"
        )


def _hold_against(first: FinishedRun, second: FinishedRun, is_deterministic: bool) -> None:
    differences = _differences(first.metrics, second.metrics)
    if not differences:
        say(f"all {len(_judged(first.metrics))} metrics are those of run {first.run_id[:8]}, to the last bit")
        return
    rows = [(key, f"{before:.6f}", f"{now:.6f}", f"{now - before:+.2g}") for key, before, now in differences[:10]]
    title = f"{len(differences)} of {len(_judged(first.metrics))} metrics differ, the most:"
    print_table(terminal_table(title, ("Metric", first.label, second.label, "Difference"), rows, "lrrr"))
    if is_deterministic:
        raise JobError(
            f"run {first.run_id[:8]} was deterministic, and its repeat differs in {len(differences)} metrics"
        )
    compared = compare_paired(predictions_of_run(second.run_id), predictions_of_run(first.run_id))
    say(
        f"not deterministic: mean test AUC {compared.difference:+.4f} ({compared.low:+.4f} to {compared.high:+.4f}, "
        f"p = {compared.p_value:.3f}) against the first run"
    )


def _differences(before: Mapping[str, float], now: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """Metrics that differ at all, the largest difference first; those that one run lacks before all others."""
    pairs = [
        (key, before.get(key, math.inf), now.get(key, math.inf)) for key in sorted({*_judged(before), *_judged(now)})
    ]
    differing = [pair for pair in pairs if pair[1] != pair[2] and not (math.isnan(pair[1]) and math.isnan(pair[2]))]
    return sorted(differing, key=lambda pair: -abs(pair[1] - pair[2]))


def _judged(metrics: Mapping[str, float]) -> list[str]:
    return [key for key in metrics if key.startswith(JUDGED)]
