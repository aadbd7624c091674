"""What labels cost that are not known: 30 % of them masked, or taken for absent, against all of them.

    python -m benchmarks.unknown_labels --data=DATASET --out=FOLDER

copies a dataset and makes each label of its training films uncertain with a chance of 30 %, by seed; then trains on the
dataset as it is, and on the copy with `uncertain=ignore` (masked) and `uncertain=zeros` (absent), once a seed each. The
table has the mean test AUC over seeds and the difference from all labels with a 95 % interval, paired, with the
variances between patients and between seeds; test labels are all known. A training that is finished in FOLDER is not
trained again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from radflow.data.dataset.manifest import SPLITS
from radflow.data.dataset.reading import Dataset, open_dataset
from radflow.data.dataset.shards import FilmTable
from radflow.data.dataset.writing import DatasetHeader, write_dataset
from radflow.evaluation.auc import auc_per_finding, mean_auc
from radflow.evaluation.predictions import Predictions, read_predictions
from radflow.evaluation.repeated import compare_repeated
from radflow.plots.tables import markdown_table
from radflow.training.job_folder import JOB_FILE, PREDICTIONS_FILE, read_job

SHARE = 0.3
WAYS = {"all known": "ignore", "30 % masked": "ignore", "30 % taken for absent": "zeros"}
"""Ways of training, and what each makes of uncertain labels."""


def main() -> None:
    options = read_options()
    out = Path(options.out).resolve()
    whole = open_dataset(options.data)
    partly = copy_with_uncertain(whole, out / "partly", options.seeds)
    results: dict[str, list[Predictions]] = {way: [] for way in WAYS}
    for seed in range(options.seeds):
        for way, rule in WAYS.items():
            data = whole.path if way == "all known" else partly
            results[way].append(train(data, rule, seed, out / f"{way.replace(' ', '-')}-{seed}", options))
            print(f"{way}, seed {seed}: {area(results[way][-1]):.4f}", flush=True)
    rows = [(way, f"{np.mean([area(each) for each in of_way]):.3f}", against(of_way, results["all known"]))
            for way, of_way in results.items()]  # fmt: skip
    print("\n" + markdown_table(("labels", "mean test AUC", "against all known"), rows, align="lrl"))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="dataset made by `preprocess`")
    parser.add_argument("--out", required=True, help="folder of the copy and of the trainings")
    parser.add_argument("--arch", default="densenet121")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()


def copy_with_uncertain(dataset: Dataset, path: Path, seed: int) -> Path:
    """Write the dataset with uncertain labels in its training films."""
    if (path / "manifest.json").exists():
        return path
    splits = [dataset.split(name) for name in SPLITS]
    table = FilmTable.concatenate([split.table for split in splits])
    drawn = np.random.default_rng(seed).random(table.labels.shape) < SHARE
    drawn &= (table.splits == "train")[:, np.newaxis]
    table = replace(table, labels=table.labels & ~drawn, known=~drawn, uncertain=drawn)
    manifest = dataset.manifest
    header = DatasetHeader(
        name=f"{manifest.name}-partly",
        image_size=manifest.image_size,
        findings=manifest.findings,
        split_rule=manifest.split_rule,
        task=manifest.task,
        sources=manifest.sources,
    )
    with write_dataset(path, header, table) as writer:
        row = 0
        for split in splits:
            for place in range(len(split)):
                writer.put(row, split.gather(np.array([place]))[0])
                row += 1
    return path


def train(data: Path, rule: str, seed: int, out: Path, options: argparse.Namespace) -> Predictions:
    """Predictions of the test films by a training, which is run if it has not ended yet."""
    flags = [f"--data={data}", f"--uncertain={rule}", f"--seed={seed}", f"--out={out}", "--resume=auto"]
    flags += [f"--arch={options.arch}", f"--epochs={options.epochs}", "--bz=64", "--threads=1"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{out.parent / 'mlflow.db'}"}
    if not any(out.glob(f"*/{PREDICTIONS_FILE}")):
        out.mkdir(parents=True, exist_ok=True)
        with (out / "output.log").open("ab") as log:
            command = [sys.executable, "-m", "radflow", "train", *flags]
            subprocess.run(command, env=environment, stdout=log, stderr=log, check=True)
    (job,) = (read_job(path.parent) for path in out.glob(f"*/{JOB_FILE}"))
    return read_predictions(job.folder / PREDICTIONS_FILE)


def area(predictions: Predictions) -> float:
    """Mean AUC over findings."""
    return mean_auc(auc_per_finding(predictions))


def against(ours: list[Predictions], theirs: list[Predictions]) -> str:
    """Difference in mean AUC, with its interval; nothing of a way against itself."""
    if ours is theirs:
        return ""
    tested = compare_repeated(ours, theirs)
    return f"{tested.difference:+.3f} ({tested.low:+.3f} to {tested.high:+.3f}), p = {tested.p_value:.2g}"


if __name__ == "__main__":
    main()
