"""Films a second of `mlflow models serve`, asked by one client and by several at once, beside the bare forward pass.

    python -m benchmarks.serving --model=models:/radflow-chest-densenet121@champion --input=/data/films

serves a model that radflow trained, posts films to it as base64 text, and holds its answers to those of `predict`.
Before and after each measurement films that lie in memory go through the model's graph in this process, in batches as
large as a request. `--workers` and the environment go to the server as they are.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import requests

import radflow
from benchmarks.predict import bare_forward
from benchmarks.quiet import Referee
from radflow.inference.film_sources import Film, list_films
from radflow.inference.predictor import FilmPredictor
from radflow.plots.tables import markdown_table

START_SECONDS = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="MLflow URI or folder of a model that radflow trained")
    parser.add_argument("--input", required=True, help="folder of films")
    parser.add_argument("--clients", nargs="+", type=int, default=(1, 8))
    parser.add_argument("--films", nargs="+", type=int, default=(1, 16), help="films of a request")
    parser.add_argument("--requests", type=int, default=12, help="of a client")
    parser.add_argument("--workers", type=int, default=1, help="processes of the server")
    options = parser.parse_args()
    Referee()
    environment = dict(os.environ)  # before radflow sets what TensorFlow reads
    model = radflow.load(options.model)
    films = list_films(options.input)[: max(options.films)]
    rows = []
    with served(options.model, options.workers, environment) as address:
        for count in options.films:
            body = request_of(films[:count])
            hold_to(model.predict(films[:count]), ask(address, body), model.classifier.findings)
            for clients in options.clients:
                before = forward_of(model, count)
                speed, median, late = measure(address, body, count, clients, options.requests)
                bare = (before + forward_of(model, count)) / 2
                values = speed, median, late, bare, speed / bare
                rows.append([str(clients), str(count), *(f"{value:.2f}" for value in values)])
    headings = ["clients", "films of a request", "films/s", "median s", "95 % s", "bare forward pass", "ratio"]
    print(markdown_table(headings, rows, align="r" * len(headings)))


@contextmanager
def served(model: str, workers: int, environment: Mapping[str, str]) -> Iterator[str]:
    """The address that answers for a model while the block lasts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [f"{Path(sys.executable).parent}/mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    line += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(line, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(f"http://127.0.0.1:{port}/ping", process)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if direct().get(address, timeout=5).ok:
                return
        except requests.RequestException:
            time.sleep(0.5)
    raise SystemExit(f"mlflow models serve does not answer at {address}")


def direct() -> requests.Session:
    """A connection to this machine, whatever proxy the environment names."""
    session = requests.Session()
    session.trust_env = False
    return session


def request_of(films: Sequence[Film]) -> bytes:
    rows = [[base64.b64encode(film.content.read_bytes()).decode("ascii")] for film in films]
    return json.dumps({"dataframe_split": {"columns": ["film"], "data": rows}}).encode()


def ask(address: str, body: bytes, session: requests.Session | None = None) -> list[dict[str, float]]:
    answer = (session or direct()).post(address, data=body, headers={"Content-Type": "application/json"}, timeout=600)
    answer.raise_for_status()
    return answer.json()["predictions"]


def hold_to(expected: pd.DataFrame, answers: Sequence[dict[str, float]], findings: Sequence[str]) -> None:
    """End with an error where the server's probabilities are not those of `predict`."""
    given = [[row[finding] for finding in findings] for row in answers]
    wanted = expected[list(findings)].to_numpy(float)
    np.testing.assert_allclose(given, wanted, rtol=0.02, err_msg="what is served is not what predict gives")


def measure(address: str, body: bytes, films: int, clients: int, count: int) -> tuple[float, float, float]:
    """Films a second, and median and 95th percentile of seconds until an answer."""

    def client(_: int) -> list[float]:
        session, seconds = direct(), []
        for _ in range(count):
            started = time.perf_counter()
            ask(address, body, session)
            seconds.append(time.perf_counter() - started)
        return seconds

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        seconds = [each for one in pool.map(client, range(clients)) for each in one]
    speed = films * clients * count / (time.perf_counter() - started)
    return speed, statistics.median(seconds), float(np.quantile(seconds, 0.95))


def forward_of(model: FilmPredictor, films: int) -> float:
    """Films a second through the graph in batches of so many, the first of which is not measured."""
    size = model.classifier.image_size
    batch = np.random.default_rng(0).integers(0, 256, (films, size, size), np.uint8)
    model.classifier.predict(batch)
    return bare_forward(model.classifier, batch, max(2, 32 // films))


if __name__ == "__main__":
    main()
