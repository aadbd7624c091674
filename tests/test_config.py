"""Flags, config files and exit codes, on a small config of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from cyclopts import Parameter
from hypothesis import given
from hypothesis import strategies as st

from radflow.config import command_line, exit_code_of, flatten, parse, run_command
from radflow.errors import Interrupted, JobError, UserError
from radflow.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.05
    decay: float = 0.0

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise UserError(f"rate={self.rate} must be positive")
        if self.decay and self.rate < 0.1:
            raise UserError(f"decay={self.decay} needs a rate of 0.1 or more; rate={self.rate}")


@dataclass(frozen=True, kw_only=True)
class OuterConfig:
    """A config with a nested one."""

    name: str = "plain"
    count: int = 3
    kind: Literal["a", "b"] = "a"
    ranks: Literal["auto"] | int = "auto"
    packed: bool = False
    inner: Annotated[Inner, Parameter(name="*")] = field(default_factory=Inner)
    config: str = ""


def test_flags_reach_nested_dataclasses():
    config = parse(OuterConfig, ["--count=5", "--rate=0.25", "--ranks=4", "--packed=true", "--kind=b"])
    assert config == OuterConfig(count=5, inner=Inner(rate=0.25), ranks=4, packed=True, kind="b")


@given(
    st.builds(
        OuterConfig,
        name=st.text(st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=("Cs",)), max_size=9),
        count=st.integers(-5, 5),
        kind=st.sampled_from(["a", "b"]),
        ranks=st.one_of(st.just("auto"), st.integers(1, 64)),
        packed=st.booleans(),
        inner=st.builds(Inner, rate=st.floats(1e-9, 1e9)),
    )
)
def test_command_line_parses_back_to_the_same_config(config):
    assert parse(OuterConfig, command_line(config)) == config


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--cuont=5"], "--cuont"),
        (["--count=many"], "many"),
        (["--kind=c"], '"a", "b"'),
        (["--rate=-1"], "rate=-1.0"),
        (["stray"], "stray"),
        (["--ranks=several"], "several"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, named, capsys):
    assert run_command(OuterConfig, lambda config: None, arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert named in error


def test_a_config_file_replaces_defaults_and_yields_to_flags(tmp_path):
    file = tmp_path / "best.yaml"
    file.write_text("count: 7\nrate: 0.125\nranks: 8\npacked: true\n")
    config = parse(OuterConfig, [f"--config={file}", "--count=9", "--name=plain"])
    assert config == OuterConfig(count=9, inner=Inner(rate=0.125), ranks=8, packed=True, config=str(file))


def test_a_flag_that_needs_a_value_of_the_file_is_checked_together_with_it(tmp_path):
    file = tmp_path / "best.yaml"
    file.write_text("rate: 0.25\n")
    config = parse(OuterConfig, [f"--config={file}", "--decay=0.5", "--rate=0.05"])
    assert config.inner == Inner(rate=0.25, decay=0.5)
    file.write_text("rate: 0.0625\n")
    with pytest.raises(UserError, match=r"rate=0\.0625"):
        parse(OuterConfig, [f"--config={file}", "--decay=0.5"])
    with pytest.raises(UserError, match=r"rate=0\.05"):
        parse(OuterConfig, ["--config=", "--decay=0.5"])


@pytest.mark.parametrize(
    "content", ["cuont: 7\n", "count: many\n", "- 1\n", "a: [1, 2]\n", "a: {\n", "!!python/object:os.system {}\n"]
)
def test_a_wrong_config_file_is_a_mistake_of_the_user(content, tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text(content)
    with pytest.raises(UserError):
        parse(OuterConfig, [f"--config={file}"])


def test_a_missing_config_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        parse(OuterConfig, [f"--config={tmp_path / 'nowhere.yaml'}"])


def test_help_beside_a_config_file_is_that_of_the_config(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse(OuterConfig, ["--config=any.yaml", "--help"])
    assert "A config with a nested one." in capsys.readouterr().out


def test_flatten_names_every_setting():
    assert flatten(OuterConfig()) == {
        "name": "plain", "count": 3, "kind": "a", "ranks": "auto", "packed": False, "rate": 0.05, "decay": 0.0,
        "config": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("fix it"), 2, "error: fix it\n"),
        (JobError("rank 3 died"), 1, "failed: rank 3 died\n"),
        (Interrupted(15), 143, "stopped: received SIGTERM\n"),
        (KeyboardInterrupt(), 130, "stopped: received SIGINT\n"),
    ],
)
def test_each_end_has_its_exit_code(error, code, line, capsys):
    def end() -> None:
        raise error

    assert exit_code_of(end) == code
    assert capsys.readouterr().err == line


def test_an_unforeseen_failure_shows_its_traceback_and_exits_1(capsys):
    assert exit_code_of(lambda: 1 / 0) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--body_lr=0.25"], ["--body_lr", "0.25"], ["--config=job.yaml"]])
def test_an_earlier_name_of_a_setting_is_accepted_with_a_warning(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text("body_lr: 0.25\n")
    assert parse(TrainConfig, arguments).optim.body_lr_factor == 0.25
    assert capsys.readouterr().err == "warning: body_lr is called body_lr_factor now\n"
