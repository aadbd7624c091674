from __future__ import annotations

import pytest

from radflow.data.readers.findings import FINDINGS
from radflow.data.tasks import TASKS, task_of


@pytest.mark.parametrize(
    ("findings", "task"),
    [(FINDINGS, "chest"), (("Tumour",), "mammo"), (FINDINGS[:13], "other"), (("Fracture",), "other")],
)
def test_findings_make_the_task_that_a_family_is_named_after(findings: tuple[str, ...], task: str) -> None:
    assert task_of(findings) == task
    assert task in (*TASKS, "other")
