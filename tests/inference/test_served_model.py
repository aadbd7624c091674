"""What `mlflow models serve` answers, asked of MLflow's own request handler without a server around it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from request_forms import FORMS
from small_classifier import CALIBRATED, FINDINGS, base64_of, encoded, random_films, save_small_classifier

if TYPE_CHECKING:
    import keras
    from mlflow.pyfunc import PyFuncModel

FILM = random_films(1)[0]
GOOD = base64_of(encoded(FILM))

# MLflow warns of a type hint of its own when mlflow.pyfunc is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[PyFuncModel, keras.Model]:
    folder = tmp_path_factory.mktemp("served") / "model"
    model = save_small_classifier(folder)
    return mlflow.pyfunc.load_model(str(folder)), model


def ask(served: tuple[PyFuncModel, keras.Model], body: Any, kind: str = "application/json") -> tuple[int, Any]:
    """Status and answer of POST /invocations."""
    from mlflow.pyfunc import scoring_server

    sent = body if isinstance(body, str) else json.dumps(body)
    try:
        answer = scoring_server.invocations(sent, kind, served[0], served[0].metadata.get_input_schema())
    except MlflowException as error:  # what the server makes a response of
        return error.get_http_status_code(), json.loads(error.serialize_as_json())
    return answer.status, json.loads(answer.response)["predictions"]


def films(*entries: object) -> dict[str, Any]:
    return {"dataframe_split": {"columns": ["film"], "data": [[entry] for entry in entries]}}


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_film_gets_what_the_model_gives(served, kind) -> None:
    flat = np.kron([[20, 90], [150, 230]], np.ones((16, 16))).astype(np.uint8)  # which JPEG keeps as it is
    status, (row,) = ask(served, films(base64_of(encoded(flat, kind))))
    assert status == 200
    expected = np.asarray(served[1](flat[np.newaxis]))[0]
    np.testing.assert_allclose([row[finding] for finding in FINDINGS], expected, rtol=1e-5)
    assert row["above/Mass"] == (row["Mass"] >= 0.5)
    assert row["above/Nodule"] is True
    assert row["above/Edema"] is None
    assert (row["film"], row["error"]) == (0, None)


def test_films_get_the_same_where_there_is_no_radflow(tmp_path) -> None:
    model = save_small_classifier(tmp_path / "model")
    program = (
        "import sys; sys.modules['radflow'] = None\n"
        "import mlflow, pandas\n"
        f"films = pandas.DataFrame({{'film': [{GOOD!r}]}})\n"
        "mlflow.pyfunc.load_model('model').predict(films).to_json('answer.json', orient='records')"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)
    (row,) = json.loads((tmp_path / "answer.json").read_text())
    expected = np.asarray(model(FILM[np.newaxis]))[0]
    np.testing.assert_allclose([row[finding] for finding in FINDINGS], expected, rtol=1e-4)


def test_what_is_served_is_calibrated(tmp_path) -> None:
    model = save_small_classifier(tmp_path / "model", outputs=CALIBRATED)
    _, (row,) = ask((mlflow.pyfunc.load_model(str(tmp_path / "model")), model), films(GOOD))
    own = np.asarray(model(FILM[np.newaxis]), np.float64)[0]
    odds = np.log(own / (1 - own)) * [2, 1, 0.5] + [0, 1, -1]
    np.testing.assert_allclose([row[finding] for finding in FINDINGS], 1 / (1 + np.exp(-odds)), rtol=1e-4)
    assert row["above/Mass"] == (own[0] >= 0.5)


def test_more_films_than_a_batch_come_in_their_order(served) -> None:
    many = random_films(40)
    _, rows = ask(served, films(*(base64_of(encoded(film)) for film in many)))
    assert [row["film"] for row in rows] == list(range(40))
    np.testing.assert_allclose([row["Mass"] for row in rows], np.asarray(served[1](many))[:, 0], rtol=1e-5)


@pytest.mark.parametrize("entries", [[GOOD], [GOOD, GOOD], [GOOD, "AAAA"], [GOOD, None]])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_request_has_a_row_a_film(served, form, entries) -> None:
    status, rows = ask(served, FORMS[form](entries))
    assert status == 200
    assert [row["error"] is None for row in rows] == [entry == GOOD for entry in entries]
    assert [row["film"] for row in rows] == list(range(len(entries)))


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("/etc/passwd", "not base64"),
        ("http://127.0.0.1:1/film.png", "not base64"),
        ("AAAA", "not a PNG, JPEG or DICOM film"),
        (GOOD[: len(GOOD) // 8 * 4], "truncated PNG"),
        (GOOD[:-3], "not base64"),
        ("", "empty file"),
        (None, "no film given: null"),
        (7, "given int"),
        ({"path": "/etc/passwd"}, "given dict"),
        ([GOOD], "given list"),
        ("ü" * 8, "not base64"),
    ],
)
def test_a_bad_film_has_a_row_of_its_own_and_the_others_are_answered(served, entry, says) -> None:
    status, (bad, good) = ask(served, films(entry, GOOD))
    assert status == 200
    assert says in bad["error"]
    assert "\n" not in bad["error"]
    assert {bad[finding] for finding in FINDINGS} == {bad["above/Mass"]} == {None}
    assert good["error"] is None
    assert good["Mass"] == pytest.approx(float(np.asarray(served[1](FILM[np.newaxis]))[0, 0]), rel=1e-5)


def test_odd_films_are_remarked_upon_and_blank_ones_not_judged(served) -> None:
    black, wide = np.zeros((32, 32), np.uint8), np.hstack([FILM, FILM])
    _, rows = ask(served, films(GOOD, base64_of(encoded(black)), base64_of(encoded(wide))))
    assert [row["error"] for row in rows] == [None] * 3
    assert rows[0]["warning"] is None
    assert rows[1]["warning"].startswith("no contrast")
    assert {rows[1][finding] for finding in FINDINGS} == {rows[1]["above/Mass"]} == {None}
    assert rows[2]["warning"].startswith("64x32 pixels")
    assert rows[2]["Mass"] is not None


def test_base64_may_be_broken_into_lines(served) -> None:
    lines = "\n".join(GOOD[start : start + 76] for start in range(0, len(GOOD), 76))
    assert ask(served, films(lines))[1][0]["error"] is None


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"dataframe_records": [{"flim": GOOD}]}, "no column 'film'"),
        ({"dataframe_records": []}, "no column 'film'"),
        (films(), "given no films"),
        ({"dataframe_split": {"data": [[GOOD]]}}, "no column 'film'"),
        ({"inputs": 7}, "no column 'film'"),
        ({"inputs": {"film": []}}, "given no films"),
        ({"dataframe_split": None}, "must be a dictionary"),
        ({"film": GOOD}, "exactly one of the input fields"),
        ([GOOD], "Received a list"),
        ("", "valid JSON"),
        ('{"dataframe_split', "valid JSON"),
        ("null", "NoneType"),
    ],
)
def test_what_is_no_table_of_films_is_refused_without_a_stack_trace(served, body, says) -> None:
    status, answer = ask(served, body)
    assert status == 400
    assert says in answer["message"]
    assert "stack_trace" not in answer
    assert GOOD[:40] not in answer["message"]
