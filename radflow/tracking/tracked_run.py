"""What a job can say about itself, and the process that has nothing to say: ranks other than the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class TrackedRun(Protocol):
    """A job's run, whether this process owns it (run.Run) or not (SilentRun)."""

    @property
    def run_id(self) -> str:
        """MLflow's id of the run, 32 hexadecimal digits; '' for a SilentRun."""
        ...

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log values at a step. Every key must be in the metric table (KeyError otherwise).

        MLflow stores NaN as NaN and infinities as the largest finite number of their sign.
        """
        ...

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log values that never change, under exactly these keys; over 6,000 characters are cut."""
        ...

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags, which may change later; over 8,000 characters are cut."""
        ...

    def set_note(self, markdown: str) -> None:
        """Set the run's description, which the UI shows as Markdown; over 8,000 characters are cut."""
        ...

    def log_figure(self, figure: Figure, path: str) -> None:
        """Store a figure as the artefact `path` ("figures/auc.png"); the suffix gives the format."""
        ...

    def log_file(self, path: Path, folder: str = "") -> None:
        """Store a copy of a file as it is now, in the artefact folder `folder`."""
        ...

    def log_text(self, text: str, path: str) -> None:
        """Store a text as the artefact `path`."""
        ...

    def log_table(self, table: pd.DataFrame | Mapping[str, list[Any]], path: str) -> None:
        """Store a table as the artefact `path` (".json"); the UI compares such tables across runs."""
        ...

    def log_dataset(self, name: str, digest: str, source: str, profile: Mapping[str, object], context: str) -> None:
        """Say which data the run used: fills the UI's Dataset column.

        `context` is training, validation or testing (ValueError otherwise). MLflow keeps one context per name and
        digest, so the split is added to the name; of a digest it keeps 36 characters, and the profile has all.
        """
        ...

    def log_model(
        self,
        write: Callable[[Path], None],
        name: str = "model",
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, object] | None = None,
    ) -> str | None:
        """Log a model as a LoggedModel; return its URI, `models:/m-...`, or None if it waits in the spool.

        Args:
            write: writes the MLflow model of the Keras flavour into the folder that it is given.
            name: the model's name within the run: `runs:/<run_id>/<name>` finds it too.
            metrics: values that are shown with the model (keys of the metric table).
            params: values that are shown with the model.
        """
        ...

    def url(self) -> str:
        """How to see the run: its address in the MLflow UI, or the command that starts the UI."""
        ...


class SilentRun:
    """Says nothing and never touches MLflow: the run of every rank but the first."""

    @property
    def run_id(self) -> str:
        """''."""
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Do nothing."""

    def log_params(self, params: Mapping[str, object]) -> None:
        """Do nothing."""

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Do nothing."""

    def set_note(self, markdown: str) -> None:
        """Do nothing."""

    def log_figure(self, figure: Figure, path: str) -> None:
        """Do nothing."""

    def log_file(self, path: Path, folder: str = "") -> None:
        """Do nothing."""

    def log_text(self, text: str, path: str) -> None:
        """Do nothing."""

    def log_table(self, table: pd.DataFrame | Mapping[str, list[Any]], path: str) -> None:
        """Do nothing."""

    def log_dataset(self, name: str, digest: str, source: str, profile: Mapping[str, object], context: str) -> None:
        """Do nothing."""

    def log_model(
        self,
        write: Callable[[Path], None],
        name: str = "model",
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, object] | None = None,
    ) -> str | None:
        """Do nothing and return None."""

    def url(self) -> str:
        """''."""
        return ""
