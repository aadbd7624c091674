"""A study's journal after writers that were killed and disks that were full, held against Optuna's own reading."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from radflow.errors import JobError, UserError
from radflow.search.journal import StudyJournal, open_journal

STUDY = "study"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The journal of a study of three trials, as Optuna writes it."""
    path = tmp_path_factory.mktemp("whole") / "study.journal"
    study = optuna.create_study(study_name=STUDY, storage=JournalStorage(JournalFileBackend(str(path))))
    for value in (0.5, 0.25, 0.75):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        trial.set_user_attr("owner", {"host": 'a "quoted" host', "pid": 1})
        study.tell(trial, value)
    return path.read_bytes()


def trials_by_optuna(path: Path, content: bytes) -> list[FrozenTrial]:
    path.write_bytes(content)
    return optuna.load_study(study_name=STUDY, storage=JournalStorage(JournalFileBackend(str(path)))).trials


def trials(path: Path) -> list[FrozenTrial]:
    return optuna.load_study(study_name=STUDY, storage=open_journal(path)).trials


def append_as_optuna_does(path: Path, number: int) -> None:
    JournalFileBackend(str(path)).append_logs(
        [{"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {f"attempt {number}": number}}]
    )


@settings(max_examples=60)
@given(data=st.data())
def test_a_torn_last_line_costs_that_record_alone(
    data: st.DataObject, whole: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    first_line = whole.index(b"\n") + 1
    kept = whole[: data.draw(st.integers(first_line, len(whole)))]
    records = kept[: kept.rindex(b"\n") + 1]
    torn = kept[len(records) :]
    complete = torn + b"\n" if torn.endswith(b"}") and torn + b"\n" in whole else b""
    expected = trials_by_optuna(folder / "expected", records + complete)
    path = folder / "study.journal"
    path.write_bytes(kept)
    assert trials(path) == expected
    append_as_optuna_does(path, 1)
    append_as_optuna_does(path, 2)
    assert trials(path) == expected
    if torn and not complete:
        assert (folder / "study.journal.torn").read_bytes() == torn + b"\n"


@pytest.mark.parametrize("torn", [b'{"op', b'{"op_code":5,"worker_id":"w","trial_id":0,"par', b"\0" * 40, b"\xff{"])
def test_records_behind_half_a_line_are_found_again(tmp_path: Path, whole: bytes, torn: bytes) -> None:
    """What Optuna does: it writes on behind the half line, and nobody can read further."""
    path = tmp_path / "study.journal"
    path.write_bytes(whole + torn)
    for attempt in range(3):
        append_as_optuna_does(path, attempt)
    with pytest.raises(ValueError, match=r"."):
        optuna.load_study(study_name=STUDY, storage=JournalStorage(JournalFileBackend(str(path))))
    study = optuna.load_study(study_name=STUDY, storage=open_journal(path))
    assert study.trials == trials_by_optuna(tmp_path / "expected", whole)
    assert study.user_attrs == {f"attempt {attempt}": attempt for attempt in range(3)}
    assert len(path.read_bytes().splitlines()) == len(whole.splitlines()) + 3
    assert torn.decode("utf-8", "replace") in (tmp_path / "study.journal.torn").read_text()


def test_two_whole_records_on_one_line_are_both_kept(tmp_path: Path, whole: bytes) -> None:
    lines = whole.splitlines()
    path = tmp_path / "study.journal"
    path.write_bytes(b"\n".join([*lines[:3], lines[3] + lines[4], *lines[5:], b""]))
    assert trials(path) == trials_by_optuna(tmp_path / "expected", whole)
    assert path.read_bytes() == whole
    assert not (tmp_path / "study.journal.torn").exists() or not (tmp_path / "study.journal.torn").read_text()


def line_of(whole: bytes, op_code: int) -> int:
    return next(number for number, line in enumerate(whole.splitlines()) if json.loads(line)["op_code"] == op_code)


@pytest.mark.parametrize("op_code", [4, 5, 8, 6])  # makes a trial, sets its parameter, an attribute, its state
@pytest.mark.parametrize("damage", ["no JSON", "no record", "another record"])
def test_other_damage_is_told_with_the_line_and_a_command_that_goes_on(
    tmp_path: Path, whole: bytes, op_code: int, damage: str
) -> None:
    lines = whole.splitlines(keepends=True)
    number = line_of(whole, op_code)
    changes = {"no JSON": (b'"worker_id":', b'"worker_id'), "no record": (b'{"op_code":', b'{"op_kode":')}
    changes["another record"] = (b'"worker_id":', b'"worker_jd":')
    if damage == "another record" and op_code != 4:
        changes[damage] = (b'"trial_id":', b'"trial_jd":')
    lines[number] = lines[number].replace(*changes[damage])
    path = tmp_path / "study.journal"
    path.write_bytes(b"".join(lines))
    with pytest.raises(UserError, match=f"line {number + 1} is damaged") as told:
        open_journal(path)
    assert path.read_bytes() == b"".join(lines)
    assert "\n" not in str(told.value)
    subprocess.run(shlex.split(str(told.value).partition("without it: ")[2]), check=True)
    read, expected = trials(path), trials_by_optuna(tmp_path / "expected", whole)
    assert [trial.number for trial in read] == [0, 1, 2]
    assert [trial.values for trial in read][1:] == [trial.values for trial in expected][1:]
    assert [trial.params for trial in read][1:] == [trial.params for trial in expected][1:]
    assert (tmp_path / "study.journal.damaged").read_bytes() == b"".join(lines)


FULL_DISK = """
import resource, sys
from pathlib import Path
import optuna
from radflow.errors import JobError
from radflow.search.journal import open_journal
path = Path(sys.argv[1])
study = optuna.load_study(study_name="study", storage=open_journal(path))
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 30, resource.RLIM_INFINITY))
try:
    study.ask()
except JobError as error:
    print(error)
"""


def test_a_full_disk_is_one_line_and_costs_nothing(tmp_path: Path, whole: bytes) -> None:
    """A limit on the size of files is what a full disk is: part of the line is written, then there is an error."""
    path = tmp_path / "study.journal"
    path.write_bytes(whole)
    full = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True)
    assert "cannot be written: File too large; fix that and give the same command again" in full.stdout
    assert len(path.read_bytes()) == len(whole) + 30
    study = optuna.load_study(study_name=STUDY, storage=open_journal(path))
    assert study.ask().number == 3
    assert path.read_bytes().startswith(whole)


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(JobError, match=f"{name} cannot be written"):
            open_journal(tmp_path / name)


def test_a_writer_ends_the_half_line_of_another_one(tmp_path: Path, whole: bytes) -> None:
    """Both have opened the journal before the other one is killed."""
    path = tmp_path / "study.journal"
    path.write_bytes(whole)
    study = optuna.load_study(study_name=STUDY, storage=open_journal(path))
    with path.open("ab") as file:
        file.write(b'{"op_code":5,"wor')
    assert study.ask().number == 3
    assert [trial.state for trial in trials(path)] == [TrialState.COMPLETE] * 3 + [TrialState.RUNNING]
    assert list(StudyJournal(path).read_logs(0))[-1]["op_code"] == 4
