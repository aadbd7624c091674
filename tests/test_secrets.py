"""No form of a password, token or key survives; what is no secret stays as it is."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radflow.config import exit_code_of
from radflow.errors import JobError, UserError
from radflow.search.config import SearchConfig
from radflow.secrets import hide_secrets
from radflow.terminal import say

# What people type unencoded too; no letters, so that a secret is in no other part of the text.
passwords = st.text("0123456789#/?@:%+!$,;=~&", min_size=6, max_size=20).filter(lambda word: "***" not in word)
schemes = st.sampled_from(["postgresql", "postgres", "postgresql+psycopg", "http", "https", "mysql+pymysql", "s3"])
keys = st.sampled_from(
    ["password", "sslpassword", "token", "X-Amz-Signature", "api_key", "aws_secret_access_key", "pwd"]
)
words = st.text(string.ascii_letters + " ", max_size=20)


@given(schemes, passwords, words, words)
def test_the_password_of_a_url_is_hidden_whatever_is_in_it(scheme: str, password: str, before: str, after: str) -> None:
    shown = hide_secrets(f"{before} {scheme}://ann:{password}@db.example/optuna {after}")
    assert shown == f"{before} {scheme}://ann:***@db.example/optuna {after}"


@given(schemes, keys, st.text("0123456789#/?@:%+!$,=~", min_size=6, max_size=20), words)
def test_what_a_query_names_a_secret_is_hidden(scheme: str, key: str, secret: str, after: str) -> None:
    shown = hide_secrets(f"{scheme}://db.example/optuna?user=ann&{key}={secret}&sslmode=require {after}")
    assert secret not in shown
    assert shown.startswith(f"{scheme}://")
    assert shown.endswith(f"&sslmode=require {after}")


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/#/experiments/1/runs/0123",
        "postgresql://ann@db.example:5432/optuna?sslmode=require",
        "models:/radflow-chest-densenet121@champion",
        "sqlite:////home/ann/mlflow.db",
        "s3://bucket/films, write to ann@hospital.example",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert hide_secrets(text) == text


@pytest.mark.parametrize("error", [UserError, JobError, RuntimeError])
def test_neither_an_error_line_nor_a_traceback_shows_a_password(error: type[Exception], capsys) -> None:
    def fail() -> None:
        raise error("postgres://ann:pa#ss/word@db.example/optuna is not there")

    assert exit_code_of(fail) != 0
    told = capsys.readouterr().err
    assert "pa#ss" not in told
    assert "ann:***@db.example" in told


def test_a_message_shows_no_password(capsys) -> None:
    say("storage postgresql://ann:secret@db.example/optuna?password=other")
    told = capsys.readouterr().err
    assert "secret" not in told
    assert "other" not in told


def test_a_storage_of_another_kind_is_refused_without_its_password() -> None:
    with pytest.raises(UserError, match="storage=postgres://ann:") as error:
        SearchConfig(storage="postgres://ann:secret@db.example/optuna")
    assert "secret" not in str(error.value)
