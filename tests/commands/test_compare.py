"""Runs compared: what differs is found, what does not is not, and other films are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from scipy import stats

from benchmarks.drawn_predictions import predictions_of
from radflow.commands.compare import compare
from radflow.errors import UserError
from radflow.evaluation.comparison import adjust_by_holm, compare_paired
from radflow.evaluation.predictions import Predictions, write_predictions


def judged(skill: float, seed: int = 0, films: int = 600, noise: int = 1) -> Predictions:
    """Two findings, two films a patient; the same films for one seed, judged with a noise of its own."""
    chance, own = np.random.default_rng(seed), np.random.default_rng([seed, noise])
    labels = chance.random((films, 2)) < 0.3
    scores = skill * labels + chance.normal(size=labels.shape) + 0.5 * own.normal(size=labels.shape)
    return predictions_of(labels, stats.norm.cdf(scores), np.arange(films) // 2)


def run_of(client: MlflowClient, name: str, predictions: Predictions | None, status: str = "FINISHED") -> str:
    run_id = client.create_run("0", run_name=name).info.run_id
    for epoch, loss in enumerate((0.5, 0.4), start=1):
        client.log_metric(run_id, "val/loss", loss, step=epoch)
    if predictions is not None:
        write_predictions(Path("predictions.parquet"), predictions)
        client.log_artifact(run_id, "predictions.parquet", "predictions")
    client.set_terminated(run_id, status)
    return run_id


def test_holm_is_that_of_a_published_example() -> None:
    """Holm 1979 as R's p.adjust has it for .01, .04, .03, .005: .03, .06, .06, .02."""
    assert adjust_by_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_adjusted_values_are_no_smaller_in_the_same_order_and_at_most_1(p_values: list[float]) -> None:
    adjusted = adjust_by_holm(p_values)
    assert all(0 <= value <= 1 and value >= p for value, p in zip(adjusted, p_values, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_a_true_difference_is_found_among_runs_that_do_not_differ(store: MlflowClient) -> None:
    runs = [
        run_of(store, name, judged(skill, noise=noise))
        for noise, (name, skill) in enumerate({"plain": 1.0, "again": 1.0, "better": 1.6}.items())
    ]
    results = compare(runs, Path("out.html"))
    found = {(each.first.split()[0], each.second.split()[0]): each.adjusted_p for each in results}
    assert found["plain", "again"] > 0.05
    assert max(found["plain", "better"], found["again", "better"]) < 0.05
    page = Path("out.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.slow
def test_holm_keeps_the_chance_of_any_false_difference() -> None:
    """Three runs that do not differ, 200 times: at most 5 % have any difference after Holm, and more have without."""
    false, uncorrected = 0, 0
    for seed in range(200):
        models = [judged(1.0, seed, films=300, noise=noise) for noise in range(3)]
        pairs = [(0, 1), (0, 2), (1, 2)]
        p_values = [compare_paired(models[a], models[b], replicates=400).p_value for a, b in pairs]
        false += min(adjust_by_holm(p_values)) < 0.05
        uncorrected += min(p_values) < 0.05
    assert false <= stats.binom.ppf(0.995, 200, 0.05)
    assert uncorrected > false


def test_runs_that_cannot_be_compared_are_one_line(store: MlflowClient) -> None:
    first = run_of(store, "first", judged(1.0))
    for others, words in (
        ([], "at least two different runs"),
        ([first], "at least two different runs"),
        ([run_of(store, "other films", judged(1.0, films=500))], "tested on different films"),
        ([run_of(store, "other labels", judged(1.0, seed=9))], "the labels of .* films differ"),
        ([run_of(store, "nothing", None)], "has no predictions/predictions.parquet"),
        ([run_of(store, "failed", judged(1.0), "FAILED")], "is failed, expected one that has finished"),
        (["0" * 32], "is not a run of this MLflow"),
    ):
        with pytest.raises(UserError, match=words) as error:
            compare([first, *others], Path("out.html"))
        assert "\n" not in str(error.value)
    assert not Path("out.html").exists()
