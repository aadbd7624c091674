"""`mlflow models serve` on a registered model, as curl meets it: films of every kind, and requests that mean harm."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import requests
from commands import user_environment
from mlflow import MlflowClient
from request_forms import FORMS
from small_classifier import FINDINGS, base64_of, encoded, random_films, small_classifier
from test_bad_input import bomb

from radflow.data.images.dicom import decode_dicom
from radflow.data.images.film import resize_film
from radflow.inference.description import Outputs
from radflow.inference.saved_model import save_classifier

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    # MLflow warns of a type hint of its own when mlflow.pyfunc is imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

FILM = random_films(1)[0]
GOOD = base64_of(encoded(FILM))

SESSION = requests.Session()
SESSION.trust_env = False  # whatever proxy this machine has


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `mlflow models serve`, which knows nothing of radflow, with a champion."""
    folder = tmp_path_factory.mktemp("served")
    environment = {**user_environment(folder), "PYTHONPATH": ""}
    mlflow.set_tracking_uri(environment["MLFLOW_TRACKING_URI"])
    client = MlflowClient()
    outputs = Outputs(findings=FINDINGS, thresholds={"youden": np.full(3, 0.5)})
    save_classifier(small_classifier(), outputs, random_films(1), folder / "model")
    client.create_registered_model("small")
    version = client.create_model_version("small", source=str(folder / "model"))
    client.set_registered_model_alias("small", "champion", version.version)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [f"{Path(sys.executable).parent}/mlflow", "models", "serve", "-m", "models:/small@champion"]
    line += ["--env-manager", "local", "--port", str(port)]
    with (
        (folder / "server.log").open("wb") as log,
        subprocess.Popen(line, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True) as process,
    ):
        try:
            wait_until_it_answers(f"http://127.0.0.1:{port}/ping", process, folder / "server.log")
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def wait_until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        try:
            SESSION.get(address, timeout=5)
        except requests.RequestException:
            time.sleep(0.5)
        else:
            return
    pytest.fail(log.read_text(errors="replace")[-3000:])


def post(address: str, body: bytes, kind: str = "application/json") -> tuple[int, str]:
    # A connection each: after an answer of 500 the server drops the one that it came on.
    headers = {"Content-Type": kind, "Connection": "close"}
    answer = SESSION.post(address, data=body, headers=headers, timeout=300)
    return answer.status_code, answer.text


def films(*entries: object) -> bytes:
    return json.dumps({"dataframe_split": {"columns": ["film"], "data": [[entry] for entry in entries]}}).encode()


def answered(address: str, *entries: object) -> list[dict[str, Any]]:
    status, text = post(address, films(*entries))
    assert status == 200, text
    return json.loads(text)["predictions"]


def test_png_jpeg_and_dicom_get_what_the_model_gives(server, real_data) -> None:
    flat = np.kron([[20, 90], [150, 230]], np.ones((16, 16))).astype(np.uint8)  # which JPEG keeps as it is
    dicoms = sorted((real_data / "dicom").glob("*.dcm"))
    contents = [encoded(FILM), encoded(flat, "JPEG"), *(path.read_bytes() for path in dicoms)]
    pixels = [FILM, flat, *(resize_film(decode_dicom(path.read_bytes()), 32) for path in dicoms)]
    rows = answered(server, *map(base64_of, contents))
    assert [row["error"] for row in rows] == [None] * (2 + len(dicoms))
    given = [[row[finding] for finding in FINDINGS] for row in rows]
    np.testing.assert_allclose(given, np.asarray(small_classifier()(np.stack(pixels))), rtol=1e-4)


def test_eight_clients_at_the_same_time_get_what_is_their_own(server) -> None:
    many = random_films(40)
    requests_of_clients = np.split(many, [1, 2, 3, 8, 20, 21, 22])
    with ThreadPoolExecutor(8) as pool:
        clients = pool.map(
            lambda own: answered(server, *(base64_of(encoded(film)) for film in own)), requests_of_clients
        )
        given = [[row[finding] for finding in FINDINGS] for rows in clients for row in rows]
    np.testing.assert_allclose(given, np.asarray(small_classifier()(many)), rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_request_has_a_row_a_film(server, form) -> None:
    status, text = post(server, json.dumps(FORMS[form]([GOOD, "AAAA", GOOD])).encode())
    assert status == 200, text
    assert [row["error"] is None for row in json.loads(text)["predictions"]] == [True, False, True]


def header_of(side: int) -> bytes:
    """The start of a PNG that announces side x side pixels, with its right checksum."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


HOSTILE = {
    "a film of ten thousand megapixels": films(base64_of(header_of(100_000))),
    "a zip bomb of a film": films(base64_of(bomb(7_100))),
    "a path": films("/etc/passwd"),
    "an address": films("http://169.254.169.254/latest/meta-data"),
    "a file's address": films("file:///etc/passwd"),
    "cut base64": films(GOOD[:101]),
    "another column": json.dumps({"dataframe_records": [{"path": "/etc/passwd"}]}).encode(),
    "nothing": b"",
    "no films": films(),
    "null": films(None),
    "a number": films(7),
    "a list in a list": films([[GOOD]]),
    "a table in a table": films({"film": GOOD}),
    "no JSON": b"\x89PNG\r\n\x1a\n",
    "deep JSON": b'{"dataframe_split":' + b"[" * 100_000,
    "200 MB of text": films("A" * 200 * 2**20),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_request_gets_one_line_and_the_server_stays_up(server, name) -> None:
    status, text = post(server, HOSTILE[name])
    assert text.count("\n") == 0
    assert "Traceback" not in text
    assert "root:" not in text
    assert len(text) < 2000
    if status == 200:
        (row,) = json.loads(text)["predictions"]
        assert row["error"]
        assert {row[finding] for finding in FINDINGS} == {None}
    else:
        # What is nested too deeply to be parsed, MLflow's server answers with 500 and three words.
        assert 400 <= status < 500 or name == "deep JSON"
    good, bad = answered(server, GOOD, "bad")
    assert good["error"] is None
    assert bad["error"].startswith("not base64")
