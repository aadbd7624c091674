"""Settings of `promote`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from radflow.errors import UserError
from radflow.models.backbones import ARCHITECTURES

if TYPE_CHECKING:
    Families = str
else:  # the command line takes these names and lists them
    Families = Literal[("all", *ARCHITECTURES)]


@dataclass(frozen=True, kw_only=True)
class PromoteConfig:
    """Make the best run of a family its champion in the model registry, if the policy allows it."""

    arch: Families = "all"
    """Families of this architecture; all is every one that has a finished run."""
    task: str = "all"
    """Families of this task, such as chest."""
    run: str = ""
    """Judge this run; empty is the one with the best validation AUC of those that have not been champion."""
    data: str = ""
    """Choose among runs on this dataset; empty is the champion's, or the newest run's where there is none."""
    rollback: bool = False
    """Make the previous champion champion again, instead of judging any run."""
    policy: str = "registry/policy.yaml"
    """YAML file that says which registered models there are and what their champions must show; where
    registry/ is not in the working folder, the policy that comes with radflow."""
    card: str = "registry/model_card.md"
    """Template of the model card that becomes a version's description; found likewise."""

    def __post_init__(self) -> None:
        """Check what excludes each other."""
        if self.rollback and (self.run or self.data):
            raise UserError("rollback=true judges no run; give neither run nor data with it")
        if self.run and self.data:
            raise UserError("run names the run to judge, data those to choose from; give one of the two")
