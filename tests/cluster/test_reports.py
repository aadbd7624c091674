"""Reports of ranks amid their output."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radflow.cluster.reports import Report, ReportReader, write_report

LINE = st.text(st.characters(exclude_characters="\x1e\r\n", exclude_categories=["Cs"]), max_size=30)
REPORT = st.builds(Report, st.integers(0, 4095), LINE, LINE, st.booleans(), st.floats(0, 1e6), st.just("stalled"), LINE)


@given(st.lists(st.one_of(LINE, REPORT), max_size=12), st.sampled_from([b"\n", b"\r\n"]), st.data())
def test_reports_are_taken_out_of_output_that_comes_in_any_pieces(told, newline, data) -> None:
    written = b"".join(
        each.encode() + newline if isinstance(each, str) else b"\x1e" + json.dumps(asdict(each)).encode() + newline
        for each in told
    )
    reader, shown, reports = ReportReader(), b"", []
    while written:
        size = data.draw(st.integers(1, len(written)))
        text, found = reader.read(written[:size])
        written, shown, reports = written[size:], shown + text, reports + found
    assert reports == [each for each in told if isinstance(each, Report)]
    lines = [each.encode() + b"\n" for each in told if isinstance(each, str)]
    assert shown.replace(b"\r\n", b"\n") == b"".join(lines)


def test_what_was_torn_by_another_rank_is_no_report_and_the_next_one_is() -> None:
    whole = json.dumps(asdict(Report(1, "h", "working", False, 0.0))).encode()
    shown, reports = ReportReader().read(b"\x1e" + whole[:20] + b"\x1e" + whole + b"\nand on\n")
    assert [report.rank for report in reports] == [1]
    assert shown.endswith(b"and on\n")
    assert ReportReader().read(b"\x1e{}\n\x1e[1]\n\x1enot JSON\n") == (b"", [])


def test_the_name_that_horovodrun_gives_a_line_goes_with_its_report() -> None:
    record = b"\x1e" + json.dumps(asdict(Report(1, "h", "working", False, 0.0))).encode() + b"\n"
    shown, reports = ReportReader().read(b"[0]<stdout>:hello\n[1]<stdout>:" + record)
    assert shown == b"[0]<stdout>:hello\n"
    assert len(reports) == 1


@pytest.mark.parametrize("reason", ["x" * 10_000, '"' * 10_000, "é" * 10_000])
def test_a_long_reason_is_cut_so_that_a_pipe_takes_the_record_at_once(capfdbinary, reason: str) -> None:
    write_report(Report(3, "node3", "computing", True, 1.5, "crashed", reason))
    written = capfdbinary.readouterr().out
    assert len(written) <= 4096
    _, (report,) = ReportReader().read(written)
    assert reason.startswith(report.reason)
    assert len(report.reason) > 500
