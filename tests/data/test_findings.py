from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from radflow.data.findings import check_names, key_of
from radflow.errors import UserError
from radflow.tracking.metrics import check_metric_key


@given(st.text(min_size=1, max_size=60))
def test_any_finding_has_a_key_that_mlflow_and_a_file_system_take(finding: str) -> None:
    key = f"test/auc/{key_of(finding)}"
    check_metric_key(key)
    _validate_metric_name(f"{key}/mean")  # whatever the name ends with
    assert "/" not in key_of(finding)
    assert len(key_of(finding)) == len(finding)


def test_a_finding_s_key_is_its_name_where_that_may_be() -> None:
    assert [key_of(name) for name in ("Pleural_Thickening", "No Finding", "Ödem", "Nodule/Mass")] == [
        *("Pleural_Thickening", "No Finding", "Ödem", "Nodule_Mass")
    ]


@pytest.mark.parametrize(
    ("findings", "told"),
    [
        (["Edema", "Fracture, old"], "finding 'Fracture, old' has a comma"),
        (["Nodule/Mass", "nodule_mass"], "'Nodule/Mass' and 'nodule_mass' would have one key"),
        (["Edema", "edema"], "'Edema' and 'edema' would have one key"),
    ],
)
def test_findings_that_could_not_be_told_apart_are_one_line(findings: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_names(findings)
