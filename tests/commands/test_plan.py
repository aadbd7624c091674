"""`python -m radflow plan` on datasets and on label files, and mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from radflow.commands.plan import plan_of, print_plan, training_films
from radflow.errors import UserError


def test_the_papers_cluster_on_the_released_label_files(real_data: Path) -> None:
    """86,524 films outside the official test part, of which a tenth of the patients validates."""
    flags = [f"--data={real_data / 'nih_labels_full'}", "--gbz=4096", "--lbz=64", "--np=64", "--hosts=localhost:64"]
    plan = plan_of("distributed", flags)
    assert (plan.films.name, plan.films.image_size) == ("chestxray14", 224)
    assert 0.88 * 86_524 < plan.films.count < 0.92 * 86_524
    assert str(plan.batches) == "GBZ 4096 = 64 ranks x LBZ 64 x 1 micro-step"
    assert plan.batches.steps_per_epoch in (19, 20)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (["gbz"], "-P gbz is not name=value"),
        (["gbs=4096"], "--gbs"),
        (["gbz=0"], "gbz=0"),
        (["base_batch=16"], "base_lr=auto"),
        (["data=nowhere"], "nowhere"),
    ],
)
def test_mistakes(parameters: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        print_plan("distributed", parameters)


def test_a_comparison_is_several_trainings() -> None:
    with pytest.raises(UserError, match="source=none"):
        print_plan("transfer", ["source=compare"])


def test_a_folder_that_is_no_data_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=str(tmp_path)):
        training_films(str(tmp_path))
