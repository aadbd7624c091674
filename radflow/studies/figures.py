"""Pictures that several experiments share."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from radflow.plots.runs import auc_by_run_figure
from radflow.studies.outcome import Outcome


def auc_by_finding_figure(outcome: Outcome, title: str, arms: Sequence[str] = ()) -> Figure:
    """AUC of each finding with its interval, in the mean over seeds, a mark for each of `arms`, or of all."""
    return auc_by_run_figure({arm: outcome.finding_aucs(arm) for arm in arms or outcome.arms}, title)
