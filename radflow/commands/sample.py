"""Entry point `sample`: phantom films in a folder."""

from __future__ import annotations

from pathlib import Path

from radflow.config import flatten
from radflow.data.sample import SampleConfig, check_new, make_sample
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.run import tracking_run


def sample(config: SampleConfig) -> None:
    """Make phantom films inside an MLflow run that says how; raises `UserError` where the folder exists already."""
    settled = config.settled()
    check_new(settled)
    prepare_tracking()
    with tracking_run(f"sample-{Path(settled.out).name}", flatten(settled)):
        make_sample(settled)
