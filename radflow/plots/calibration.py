"""Whether probabilities come true, as pictures: a reliability curve for each finding."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve

from radflow.evaluation.evaluation import Evaluation
from radflow.evaluation.measures import BINS
from radflow.evaluation.predictions import Predictions
from radflow.plots.style import BLUE, ORANGE, PALE, WIDTH, in_words, new_figure


def reliability_figure(evaluation: Evaluation, title: str) -> Figure:
    """Share of films with the finding against its probability, in ten groups of equal size, before and after.

    Each panel is as large as its highest probability; on the diagonal probabilities come true.
    """
    findings = evaluation.predictions.findings
    columns = min(max(len(findings), 3), 5)
    rows = max(math.ceil(len(findings) / columns), 1)
    figure = new_figure(title, 0.9 + rows * 1.16 * WIDTH / columns)
    panels = figure.subplots(rows, columns, squeeze=False)
    for index, (panel, finding) in enumerate(zip(panels.flat, findings, strict=False)):
        before, after = evaluation.uncalibrated[finding], evaluation.measures[finding]
        errors = [each.calibration_error.value for each in (before, after)]
        heading = " to ".join(f"{error:.3f}" for error in errors) if not math.isnan(errors[0]) else "not known"
        panel.set_title(f"{in_words(finding)}\nerror {heading}", fontsize=9.5)
        _draw(panel, [evaluation.predictions, evaluation.calibrated], index)
    for panel in panels.flat[len(findings) :]:
        panel.set_visible(False)
    for panel in panels[-1]:
        panel.set_xlabel("Probability", fontsize=9)
    for panel in panels[:, 0]:
        panel.set_ylabel("Share with finding", fontsize=9)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    return figure


def _draw(panel: Axes, models: list[Predictions], index: int) -> None:
    styles = (("the network's own", ORANGE, "s"), ("calibrated", BLUE, "o"))
    limit = 0.0
    for predictions, (label, colour, mark) in zip(models, styles, strict=True):
        _, truth, probabilities = predictions.of_finding(index)
        if not len(truth):
            continue
        share, mean = calibration_curve(truth, probabilities, n_bins=BINS, strategy="quantile")
        panel.plot(mean, share, color=colour, marker=mark, markersize=4, linewidth=1.4, label=label)
        limit = max(limit, float(np.max([share, mean])))
    limit = min(1.05 * limit, 1.0) or 1.0
    panel.plot([0, limit], [0, limit], color=PALE, linewidth=1, zorder=0)
    panel.set(xlim=(-0.02 * limit, 1.02 * limit), ylim=(-0.02 * limit, 1.02 * limit))
    panel.set_aspect("equal")
    panel.locator_params(nbins=3)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
