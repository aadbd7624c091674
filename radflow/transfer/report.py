"""What a comparison has found: the table, figures 16 to 18 of the paper, and a conclusion that follows the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.table import Table

from radflow.data.dataset.reading import Dataset
from radflow.evaluation.auc import auc_per_finding
from radflow.evaluation.groups import GROUPS, auc_per_group
from radflow.evaluation.repeated import RepeatedComparison, compare_repeated
from radflow.plots.arms import epochs_figure
from radflow.plots.report import RESEARCH_ONLY, leakage_markdown
from radflow.plots.tables import markdown_table, terminal_table
from radflow.terminal import print_table, say
from radflow.tracking.run import TrackedRun
from radflow.transfer.arms import ARMS, Arm, Trained
from radflow.transfer.config import TransferConfig
from radflow.transfer.figures import throughput_figure

LABELS: dict[Arm, str] = {"pretrained": "pre-trained", "scratch": "from scratch"}
SIGNIFICANT = 0.05
_LOSS, _AUC = "val/loss", "val/auc/mean"
_SPEED, _SECONDS = "throughput/images_per_second", "throughput/seconds_per_epoch"


def report(trained: Sequence[Trained], config: TransferConfig, dataset: Dataset, leakage: str, run: TrackedRun) -> None:
    """Log table, metrics, figures, conclusion and note to `run`, and print the table and the conclusion.

    `leakage` says how many test patients the pre-trained body has seen, where there are any or it is not known.
    """
    goal = config.target_auc or reached_by_all(trained)
    rows = table_of(trained, goal)
    first, second = ([each.predictions for each in trained if each.arm == arm] for arm in ARMS)
    tested = compare_repeated(first, second)
    text = conclusion(rows, tested, goal, dataset.name, config, leakage)
    run.log_table(rows, "comparison.json")
    run.log_metrics(_metrics(rows, tested), step=0)
    run.log_text(text, "conclusion.md")
    run.set_note(f"{text}\n{_markdown(rows)}\n\n*{RESEARCH_ONLY}*\n")
    _draw(trained, goal, f"{config.model.arch} on {dataset.name}", run)
    print_table(_printed(rows, f"{config.model.arch} on {dataset.name}, test crops"))
    say(text)


def table_of(trained: Sequence[Trained], goal: float) -> pd.DataFrame:
    """One row a training: its best epoch on validation crops, its speed, and AUCs of test crops, lesions and films."""
    return pd.DataFrame(_row(each, goal) for each in trained)


def _row(each: Trained, goal: float) -> dict[str, object]:
    by_group = auc_per_group(each.predictions)
    losses, areas = (np.array([epoch[key] for epoch in each.history]) for key in (_LOSS, _AUC))
    return {
        "body": LABELS[each.arm],
        "seed": each.seed,
        "first_val_loss": float(losses[0]),
        "best_val_loss": float(np.nanmin(losses)),
        "best_val_auc": float(np.nanmax(areas)),
        "epochs_to_target": epochs_to(areas, goal),
        "images_per_second": float(np.nanmedian([epoch[_SPEED] for epoch in each.history])),
        "test_auc_per_crop": _only_finding(auc_per_finding(each.predictions)),
        **{f"test_auc_per_{group}": _only_finding(by_group[group]) for group in GROUPS if group in by_group},
        "run": each.run_id,
    }


def epochs_to(areas: NDArray[np.floating], goal: float) -> float:
    """The first epoch, from 1, whose AUC is at least `goal`; NaN where none is."""
    reached = np.flatnonzero(areas >= goal)
    return float(reached[0] + 1) if len(reached) else math.nan


def reached_by_all(trained: Sequence[Trained]) -> float:
    """The highest validation AUC that every training reaches, rounded down so that it can be said."""
    lowest = min(max((epoch[_AUC] for epoch in each.history), default=math.nan) for each in trained)
    return math.floor(1000 * lowest) / 1000


def conclusion(
    rows: pd.DataFrame,
    tested: RepeatedComparison,
    goal: float,
    data_name: str,
    config: TransferConfig,
    leakage: str = "",
) -> str:
    """What the numbers say, in a paragraph on accuracy and one on convergence, after a warning of leakage."""
    means = rows.groupby("body").mean(numeric_only=True)
    pretrained, scratch = (means.loc[LABELS[arm]] for arm in ARMS)
    between = "patients and seeds" if tested.seeds > 1 else "patients; one seed says nothing about others"
    accuracy = (
        f"Test AUC per crop on {data_name} was {pretrained['test_auc_per_crop']:.3f} with pre-training "
        f"({config.pretrained}) and {scratch['test_auc_per_crop']:.3f} from scratch, in the mean of {tested.seeds} "
        f"{'seeds' if tested.seeds > 1 else 'seed'}: a difference of {tested.difference:+.3f} (95 % interval "
        f"{tested.low:+.3f} to {tested.high:+.3f}, p = {_p(tested.p_value)}, {tested.patients} patients; paired t test "
        f"on the same crops with the variance between {between}). {_verdict(tested)}"
    )
    warning = [leakage_markdown(leakage)] if leakage else []
    return "\n\n".join([*warning, accuracy, _convergence(rows, goal)]) + "\n"


def _verdict(tested: RepeatedComparison) -> str:
    if not tested.p_value < SIGNIFICANT:
        return "That is no evidence that pre-training changes how well the model does in the end."
    change = "improves" if tested.difference > 0 else "worsens"
    return f"That is evidence that pre-training {change} the model."


def _convergence(rows: pd.DataFrame, goal: float) -> str:
    """Epochs to the goal and the first epoch's loss; counted, since a few seeds bear no test of their own."""
    pretrained, scratch = (rows[rows["body"] == LABELS[arm]].set_index("seed") for arm in ARMS)
    counts = ((_number_of_epochs(half), LABELS[arm]) for half, arm in zip((pretrained, scratch), ARMS, strict=True))
    reached = " and ".join(f"{epochs} {label}" for epochs, label in counts)
    # A training that did not reach the goal took longer than any that did.
    first, second = (half["epochs_to_target"].fillna(math.inf) for half in (pretrained, scratch))
    seeds, sooner, later = len(rows) // len(ARMS), int((first < second).sum()), int((first > second).sum())
    lower = int((pretrained["first_val_loss"] < scratch["first_val_loss"]).sum())
    return (
        f"A validation AUC of {goal:.3f} was reached after {reached}: sooner with pre-training in {sooner} of {seeds} "
        f"pairs of the same seed, later in {later}. The validation loss after the first epoch was "
        f"{pretrained['first_val_loss'].mean():.3f} with pre-training and {scratch['first_val_loss'].mean():.3f} from "
        f"scratch, lower with it in {lower} of {seeds}. Training ran at {pretrained['images_per_second'].mean():.1f} "
        f"and {scratch['images_per_second'].mean():.1f} images/s."
    )


def _number_of_epochs(half: pd.DataFrame) -> str:
    epochs = half["epochs_to_target"]
    missed = int(epochs.isna().sum())
    text = f"{epochs.mean():.1f} epochs" if missed < len(epochs) else "no epoch"
    return f"{text} (never in {missed} of {len(epochs)})" if missed else text


def _metrics(rows: pd.DataFrame, tested: RepeatedComparison) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for arm in ARMS:
        means = rows[rows["body"] == LABELS[arm]].drop(columns=["body", "seed", "run"]).mean()
        metrics |= {f"compare/{measure}/{arm}": float(mean) for measure, mean in means.items()}
    return metrics | {
        "compare/test_auc_difference": tested.difference,
        "compare/test_auc_difference_ci_low": tested.low,
        "compare/test_auc_difference_ci_high": tested.high,
        "compare/p_value": tested.p_value,
    }


def _draw(trained: Sequence[Trained], goal: float, title: str, run: TrackedRun) -> None:
    losses, areas, seconds = (
        {LABELS[arm]: _by_epoch(trained, arm, key) for arm in ARMS} for key in (_LOSS, _AUC, _SECONDS)
    )
    loss = epochs_figure(losses, "Cross-entropy, validation crops", f"{title}: validation loss (as Figure 16)")
    run.log_figure(loss, "figures/validation_loss.png")
    area = epochs_figure(areas, "AUC, validation crops", f"{title}: validation AUC (as Figure 17)", goal)
    run.log_figure(area, "figures/validation_auc.png")
    speeds = ((LABELS[arm], _by_epoch(trained, arm, _SPEED)) for arm in ARMS)
    rates = {label: np.nanmedian(values, axis=1).tolist() for label, values in speeds}
    minutes = {label: np.cumsum(values, axis=1) / 60 for label, values in seconds.items()}
    speed = throughput_figure(rates, minutes, areas, f"{title}: throughput (as Figure 18)")
    run.log_figure(speed, "figures/throughput.png")


def _by_epoch(trained: Sequence[Trained], arm: Arm, key: str) -> NDArray[np.floating]:
    """A metric of the trainings of a half, [seeds, epochs], NaN after the end of one that stopped early."""
    histories = [each.history for each in trained if each.arm == arm]
    values = np.full((len(histories), max(map(len, histories))), np.nan)
    for row, history in enumerate(histories):
        values[row, : len(history)] = [epoch[key] for epoch in history]
    return values


def _only_finding(results: dict) -> float:
    return next(iter(results.values())).auc


def _printed(rows: pd.DataFrame, title: str) -> Table:
    table = terminal_table(title, *_shown(rows))
    table.rows[len(rows) - 1].end_section = True  # the means follow
    return table


def _markdown(rows: pd.DataFrame) -> str:
    return markdown_table(*_shown(rows))


def _shown(rows: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings, and cells of the rows and below them of the mean of each half, without the runs' ids."""
    shown = rows.drop(columns="run").sort_values(["body", "seed"], ascending=[False, True])
    means = shown.groupby("body", sort=False).mean(numeric_only=True).reset_index()
    means["seed"] = "mean"
    whole = pd.concat([shown.astype({"seed": object}), means], ignore_index=True)
    cells = [[_cell(value) for value in row] for row in whole.itertuples(index=False)]
    return [str(column).replace("_", " ") for column in whole], cells


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3f}"
    return str(value)


def _p(value: float) -> str:
    return "0.0001 or less" if value <= 1e-4 else f"{value:.2g}"
