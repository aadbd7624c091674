from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radflow.tracking.spool import Record, RefusedError, Spool, merge_metrics, send_in_order

OpenSpool = Callable[[], Spool]


def tags(word: str) -> Record:
    return {"kind": "tags", "values": {"word": word}}


def metrics(*values: float) -> Record:
    return {"kind": "metrics", "points": [["train/loss", value, 1, 1] for value in values]}


def artifact(name: str) -> Record:
    return {"kind": "artifact", "file": f"files/00001/{name}", "folder": None}


def test_records_come_back_in_order_in_another_process(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append([tags("one"), metrics(0.5, float("inf"))])
    spool.append([tags("Überdruck\nzwei")])
    spool.close(keep=True)
    assert open_spool().read() == [tags("one"), metrics(0.5, float("inf")), tags("Überdruck\nzwei")]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_line_cut_short_by_a_power_cut_costs_that_record_only(
    open_spool: OpenSpool, cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    spool = open_spool()
    spool.append([tags("whole"), tags("cut")])
    file = spool.folder / "records.jsonl"
    file.write_bytes(file.read_bytes()[: -1 - cut])
    assert spool.read() == [tags("whole")]
    assert "line 2 is damaged" in caplog.text


def test_a_spool_belongs_to_one_process_until_that_process_ends(tmp_path: Path, open_spool: OpenSpool) -> None:
    program = "import sys; from pathlib import Path; from radflow.tracking.spool import RunAddress, Spool\n"
    program += "held = Spool(Path(sys.argv[1]), RunAddress('sqlite:///mlflow.db', '0123456789abcdef'))\n"
    program += "print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError):
            open_spool()
        owner.kill()
        owner.wait()
        open_spool().close(keep=False)
    assert list(tmp_path.iterdir()) == []


def test_new_files_never_overwrite_those_that_wait(open_spool: OpenSpool) -> None:
    first = open_spool()
    kept = [first.new_file("auc.png") for _ in range(3)]
    first.forget_file(kept[0][1])
    first.close(keep=True)
    path, _ = open_spool().new_file("auc.png")
    assert path not in [file for file, _ in kept]


@given(st.lists(st.one_of(st.integers(0, 2500), st.just("tag")), max_size=8))
def test_merging_keeps_every_point_in_order_and_every_request_small(shape: list[Any]) -> None:
    records, expected, value = [], [], 0
    for item in shape:
        if item == "tag":
            records.append(tags("x"))
            expected.append("tag")
            continue
        points = range(value, value + item)
        value += item
        records.append(metrics(*points))
        expected.extend(points)
    merged = list(merge_metrics(records))
    flat: list[Any] = []
    for record in merged:
        flat += [point[1] for point in record["points"]] if record["kind"] == "metrics" else ["tag"]
    assert flat == expected
    assert all(0 < len(record["points"]) <= 1000 for record in merged if record["kind"] == "metrics")


class Store:
    """Takes records, except those for which `fails` has an error."""

    def __init__(self, fails: dict[str, Exception]) -> None:
        self.fails = fails
        self.taken: list[Record] = []
        self.asked = 0

    def __call__(self, record: Record) -> None:
        self.asked += 1
        if record["kind"] in self.fails:
            raise self.fails[record["kind"]]
        self.taken.append(record)


def test_a_store_that_does_not_answer_keeps_everything_in_order_after_one_question() -> None:
    records = [tags("one"), metrics(1.0), artifact("a.png"), tags("two")]
    store = Store({"tags": ConnectionError("refused"), "metrics": ConnectionError("refused")})
    waiting, failure = send_in_order(records, store)
    assert waiting == records
    assert isinstance(failure, ConnectionError)
    assert store.asked == 1


def test_artifacts_that_cannot_be_uploaded_do_not_hold_up_metrics() -> None:
    records = [artifact("a.png"), metrics(1.0), artifact("b.png"), tags("end")]
    store = Store({"artifact": PermissionError("bucket")})
    waiting, failure = send_in_order(records, store)
    assert waiting == [artifact("a.png"), artifact("b.png")]
    assert store.taken == [metrics(1.0), tags("end")]
    assert isinstance(failure, PermissionError)
    assert store.asked == 3


def test_a_refused_record_is_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    store = Store({"tags": RefusedError("no such run")})
    waiting, failure = send_in_order([tags("x"), metrics(1.0)], store)
    assert (waiting, failure) == ([], None)
    assert store.taken == [metrics(1.0)]
    assert "no such run" in caplog.text


def test_a_record_after_a_torn_line_is_kept(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append([{"kind": "tags", "number": 1}])
    with (spool.folder / "records.jsonl").open("a") as file:
        file.write('{"kind": "ta')
    spool.append([{"kind": "tags", "number": 3}])
    assert [record["number"] for record in spool.read()] == [1, 3]
