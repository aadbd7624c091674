from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from finished_runs import finished_run, predictions
from markdown_it import MarkdownIt
from mlflow import MlflowClient

from radflow.promotion.reporting_checklist import write_checklist


def test_what_the_run_knows_is_filled_in_and_the_rest_left_to_people(store: MlflowClient, tmp_path: Path) -> None:
    tested = replace(
        predictions(1.0), sexes=np.where(np.arange(400) % 4 < 3, "F", "M"), ages=np.arange(400, dtype=np.int16) % 90
    )
    run = store.get_run(finished_run(store, tested=tested))
    text = write_checklist("radflow-chest-vgg16", "3", run, tested)
    assert "$" not in text
    assert "women 300, men 100; ages 0 to 89" in text
    assert run.info.run_id in text
    assert "findings on frontal chest films" in text
    rows = MarkdownIt("commonmark").enable("table").render(text).count("<tr>")
    assert rows == 1 + 28  # the 27 items of TRIPOD+AI, the fifth in two
    for number in (2, 3, 17, 19, 25):
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {number} |")]
        assert "**To be written" in row
