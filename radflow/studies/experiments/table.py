"""The experiments by name. A new one is a file beside this one, and a line here."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal

from radflow.studies.experiment import Experiment

EXPERIMENTS = (
    "frequencies",
    "batch-size",
    "threads",
    "global-batch",
    "optimizers",
    "parallel-accuracy",
    "topology",
    "transfer",
    "normalisation",
    "large-batch",
    "resnet",
    "ensembles",
)
"""Those of the paper in its order, then those beyond it."""

if TYPE_CHECKING:
    ExperimentName = str
else:  # the command line takes these names and lists them
    ExperimentName = Literal[EXPERIMENTS]


def experiment(name: str) -> Experiment:
    """The experiment of this name."""
    found: Experiment = resolve_name(f"radflow.studies.experiments.{name.replace('-', '_')}:EXPERIMENT")
    return found
