"""Two seeds averaged into one model: tested, promoted by the policy, and used like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import REPOSITORY, run_entry_point, runs_of
from mlflow import MlflowClient

pytestmark = [pytest.mark.slow, pytest.mark.long]

TRAINING = ("--arch=vgg16", "--epochs=1", "--bz=32", "--threads=1")


def predictions_of(folder: Path, run_id: str) -> pd.DataFrame:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    table = pd.read_parquet(client.download_artifacts(run_id, "predictions/predictions.parquet", str(folder)))
    return table.set_index("image_id").filter(like="probability/")


def test_an_ensemble_is_the_mean_of_its_members_and_becomes_champion(workplace: Path, tmp_path: Path) -> None:
    data = f"--data={workplace / 'dataset'}"
    for seed in (1, 2):
        run_entry_point(tmp_path, "train", data, *TRAINING, f"--seed={seed}").check_returncode()
    members = [run.info.run_id for run in runs_of(tmp_path)]
    ended = run_entry_point(tmp_path, "ensemble", f"--runs={','.join(members)}", data)
    assert ended.returncode == 0, ended.stderr
    run = runs_of(tmp_path)[0]
    tables = [predictions_of(tmp_path, each) for each in members]
    mean = (tables[0] + tables[1].loc[tables[0].index]) / 2
    ours = predictions_of(tmp_path, run.info.run_id).loc[mean.index]
    np.testing.assert_allclose(ours, mean, atol=2e-3)  # bfloat16 rounds by the batch

    card = f"--card={REPOSITORY / 'registry/model_card.md'}"
    policy = tmp_path / "policy.yaml"
    text = (REPOSITORY / "registry/policy.yaml").read_text().replace("minimum_auc: 0.55", "minimum_auc: 0.0")
    policy.write_text(text.replace("largest_gap: 0.1", "largest_gap: 1"))
    promoted = run_entry_point(tmp_path, "promote", card, f"--policy={policy}", f"--run={run.info.run_id}")
    assert "version 1 is champion" in promoted.stdout, promoted.stderr
    films = f"--input={workplace / 'films' / 'images'}"
    model = "--model=models:/radflow-chest-vgg16@champion"
    used = run_entry_point(tmp_path, "predict", model, films, "--output=out.csv", "--calibrated=false")
    assert used.returncode == 0, used.stderr
    table = pd.read_csv(tmp_path / "out.csv").set_index("film").loc[mean.index]
    np.testing.assert_allclose(table["Mass"], mean["probability/Mass"], atol=2e-3)

    for flags, words in (
        ([f"--runs={members[0]}"], "give two, or one and mirrored=true"),
        ([f"--runs={members[0]},{members[0]}"], "names a model twice"),
        ([f"--runs={members[0]},{'0' * 32}", data], "cannot be fetched"),
    ):
        refused = run_entry_point(tmp_path, "ensemble", *flags)
        assert refused.returncode == 2
        assert words in refused.stderr.splitlines()[-1]
