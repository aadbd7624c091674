"""Settings of a search."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from radflow.cluster.launchers.table import LauncherName
from radflow.errors import UserError
from radflow.models.backbones import ArchitectureName
from radflow.secrets import hide_secrets
from radflow.training.config import Ranks

JOURNAL = "journal"
AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Search the hyper-parameters of training at a fixed global batch."""

    space: str = "large-batch"
    """What is searched: large-batch, quick, or a YAML file as docs/search.md describes it."""
    n_trials: int = 20
    """Trials of the whole study, those of earlier calls and of other machines included."""
    workers: int = 1
    """Trials at a time on this machine; each gets an equal share of the cores."""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """How a trial that lags behind is stopped early."""
    min_epochs: int = 3
    """Epochs that every trial is given before it may be pruned."""
    startup_trials: int = 8
    """Trials drawn at random, the baseline counted, before TPE models the space."""
    storage: str = JOURNAL
    """Place of the study: journal is a file in out; postgresql://USER@HOST/DATABASE serves several machines."""
    study: str = AUTO
    """Name of the study; auto is made of what defines it, so that the same command resumes the same study."""
    data: str = "sample"
    """Dataset made by `preprocess`; the word sample stands for phantom films, made on first use."""
    out: str = "runs"
    """Folder in which each study makes its own folder."""
    gbz: int = 512
    """Global batch of every trial; lbz, and with it the micro-steps, belongs to the search space."""
    np: Ranks = "auto"
    """Ranks of each trial."""
    hosts: str = ""
    """Machines and their slots for the ranks of a trial, as node1:2,node2:2; empty is this machine."""
    launcher: LauncherName = "auto"
    """What starts the ranks."""
    threads: int = 0
    """Threads of a rank; 0 is an equal share of the worker's cores."""
    arch: ArchitectureName = "densenet121"
    """Backbone of every trial."""
    weights: str = "none"
    """Initial weights of every trial."""
    epochs: int = 10
    """Epochs of a trial that is not pruned."""
    seed: int = 0
    """Seed of the sampler, and of every training."""
    config: str = ""
    """YAML file of these parameters; a parameter given with another value than its default wins over the file."""

    def __post_init__(self) -> None:
        """Check ranges; what trainings share is checked when the first training is planned."""
        for name in ("n_trials", "workers", "epochs", "min_epochs"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("startup_trials", "seed"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}={getattr(self, name)} must be 0 or positive")
        if self.workers > 1 and self.hosts:
            raise UserError(
                f"workers={self.workers} trials at a time would share hosts={self.hosts}; "
                "start one search with workers=1 for each group of hosts, with the same storage"
            )
        if not re.fullmatch(r"[\w.-]+", self.study) or set(self.study) == {"."}:
            raise UserError(f"study={self.study} names a folder too; use letters, digits, '-', '_' and '.'")
        if self.storage != JOURNAL and not self.storage.startswith("postgresql://"):
            shown = hide_secrets(self.storage)
            raise UserError(f"storage={shown} must be journal or postgresql://USER@HOST/DATABASE")
