from __future__ import annotations

import re
from pathlib import Path

import pytest

from radflow.evaluation.groups import GROUPS
from radflow.plots.tables import markdown_table
from radflow.tracking.metrics import METRICS, check_metric_key


@pytest.mark.parametrize(
    "key",
    [
        "train/loss",
        "val/auc/mean",
        "val/auc/Pleural_Thickening",
        "test/auc_ci_high/No Finding",
        "data/positives/train/Hernia",
        "throughput/images_per_second",
        "system/cpu_utilization_percentage",
    ],
)
def test_documented_keys_pass(key: str) -> None:
    check_metric_key(key)


@pytest.mark.parametrize(
    "key", ["loss", "val/auc", "val/auc/", "val/auc/a/b", "Val/loss", "val/loss ", "data/films/holdout"]
)
def test_any_other_key_is_an_error_that_names_it(key: str) -> None:
    with pytest.raises(KeyError, match=re.escape(repr(key))):
        check_metric_key(key)


def test_each_pattern_has_one_row() -> None:
    patterns = [row.pattern for row in METRICS]
    assert len(set(patterns)) == len(patterns)
    assert not any("|" in cell for row in METRICS for cell in row)  # which would be another column in Markdown


def test_the_documented_table_is_the_one_that_is_checked() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    rows = [(f"`{row.pattern}`", row.unit, row.meaning) for row in METRICS]
    assert documented.endswith(markdown_table(("key", "unit", "meaning"), rows) + "\n")


def test_every_group_of_images_has_its_keys() -> None:
    for group in GROUPS:
        check_metric_key(f"test/auc_per_{group}/Tumour")
