"""`python -m radflow claims`: what has become of the paper's claims, over all studies that have finished."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

from radflow.files import atomic_file
from radflow.plots.tables import escaped, markdown_table, terminal_table
from radflow.studies.experiments.table import EXPERIMENTS
from radflow.studies.report import CLAIM_HEADINGS, CLAIMS_FILE, KIND, KIND_TAG, SCALE_TAG, claim_rows
from radflow.studies.verdicts import Judged, Verdict
from radflow.terminal import print_table, say
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.finished_runs import FinishedRun, fetch_artifact, finished_runs_with
from radflow.tracking.run import STUDY_TAG

HEADINGS = ("Study", *CLAIM_HEADINGS)


def claims(out: Path | None) -> None:
    """Print the claims of the newest finished run of each study, by scale and films; with `out`, write them too."""
    prepare_tracking()
    newest: dict[tuple[str, ...], FinishedRun] = {}
    for run in finished_runs_with({KIND_TAG: KIND}):
        newest.setdefault(tuple(run.tags.get(tag, "") for tag in (STUDY_TAG, SCALE_TAG, "radflow.data_name")), run)
    rows: list[tuple[str, ...]] = []
    counts: Counter[str] = Counter()
    for key in sorted(newest, key=lambda key: (_place(key[0]), *key)):
        judged = _judged(newest[key])
        counts.update(str(each.verdict) for each in judged)
        rows += [(", ".join(key), *row) for row in claim_rows(judged)]
    if rows:
        print_table(terminal_table("Claims", HEADINGS, rows, "llllr"))
        studies = "1 study" if len(newest) == 1 else f"{len(newest)} studies"
        say(f"{studies}: {', '.join(f'{counts[str(verdict)]} {verdict}' for verdict in Verdict)}")
    missing = [name for name in EXPERIMENTS if name not in {key[0] for key in newest}]
    if missing:
        say(f"not finished yet: {', '.join(missing)}; `python -m radflow study --name=NAME` runs one")
    if out:
        shown = [tuple(escaped(cell) for cell in row) for row in rows]
        with atomic_file(out) as file:
            file.write_text(markdown_table(HEADINGS, shown, "llllr") + "\n", encoding="utf-8")


def _place(name: str) -> int:
    return EXPERIMENTS.index(name) if name in EXPERIMENTS else len(EXPERIMENTS)


def _judged(run: FinishedRun) -> list[Judged]:
    with tempfile.TemporaryDirectory(prefix="radflow-claims-") as folder:
        content = json.loads(fetch_artifact(run.run_id, CLAIMS_FILE, Path(folder)).read_text(encoding="utf-8"))
    return [Judged.from_json(each) for each in content]
