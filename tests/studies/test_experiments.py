"""Every experiment: its trainings can be planned, its claims judged, and its figures drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from drawn_figures import draw, texts_of
from study_cells import FILMS, outcome_of

from radflow.cluster.batch_plan import plan_batches
from radflow.errors import UserError
from radflow.studies.cells import Cell, training_of
from radflow.studies.config import StudyConfig
from radflow.studies.experiment import Experiment, Protocol
from radflow.studies.experiments import frequencies, topology
from radflow.studies.experiments.table import EXPERIMENTS, experiment
from radflow.studies.films import FilmCounts
from radflow.studies.outcome import Outcome
from radflow.studies.plan import plan_rows, plan_study
from radflow.studies.verdicts import Verdict, verdicts
from radflow.training.plan import TrainingFilms

CHEST, CROPS = TrainingFilms("phantoms", 32, 1839), TrainingFilms("crops", 64, 800)
ON = {"train": CHEST, "distributed": CHEST, "transfer": CROPS}
RELEASE = {
    "train": TrainingFilms("nih", 224, 78468),
    "distributed": TrainingFilms("nih", 224, 78468),
    "transfer": CROPS,
}


@pytest.fixture(params=EXPERIMENTS)
def each(request: pytest.FixtureRequest) -> Experiment:
    return experiment(request.param)


def test_all_its_trainings_can_be_planned(each: Experiment) -> None:
    for protocol, films in ((each.reduced, ON), (each.full, RELEASE)):
        planned = plan_study(protocol, protocol.seeds, {"np": 1, "hosts": "localhost:1"}, films, Path("nowhere"))
        assert [arm.name for arm in planned] == [arm.name for arm in protocol.arms]
        for arm in planned:
            assert arm.images == arm.cells * arm.plan.recipe.epochs * arm.plan.films.count


def test_arms_have_names_of_their_own_and_models_to_start_from(each: Experiment) -> None:
    for protocol in (each.reduced, each.full):
        names = [arm.name for arm in protocol.arms]
        assert len(set(names)) == len(names)
        assert {needed for arm in protocol.arms for needed in arm.needs} <= set(names)


def test_its_claims_are_judged_and_its_figures_drawn(each: Experiment) -> None:
    outcome = outcome_of(each.reduced, {})
    judged = verdicts(each.judge(outcome))
    assert len({claim.claim for claim in judged}) == len(judged) >= 1
    assert all(claim.evidence for claim in judged)
    figures = each.draw(outcome)
    for name, figure in figures.items():
        assert re.fullmatch(r"[a-z_]+", name)
        assert texts_of(figure)
        draw(figure)
    assert figures or not each.reduced.arms


def test_nothing_trained_is_nothing_to_tell(each: Experiment) -> None:
    """All cells diverged: no claim about them is borne out, and nothing fails."""
    judged = verdicts(each.judge(Outcome(each.reduced.arms, (), FILMS)))
    assert {claim.verdict for claim in judged} <= {Verdict.NOT_TESTABLE}


def test_its_file_has_section_command_and_cost(each: Experiment) -> None:
    assert "study -P name=" in each.description
    assert re.search(r"two cores|at every scale", each.description)
    assert each.source
    assert each.paper


def test_the_papers_failure_is_recognised_where_it_happens_and_denied_where_not() -> None:
    chosen = experiment("global-batch")
    failing = outcome_of(chosen.reduced, {"GBZ 512, LBZ 4": 0.0})
    learning = outcome_of(chosen.reduced, {})
    verdict_on = [verdicts(chosen.judge(outcome))[0].verdict for outcome in (failing, learning)]
    assert verdict_on == [Verdict.REPRODUCED, Verdict.NOT_REPRODUCED]


def test_table_i_is_decided_by_the_releases_own_counts() -> None:
    """The label file of 2020, counted by hand: Emphysema's count stands for Effusion's, and a percentage is wrong."""
    counts = {finding: count for finding, (count, _) in frequencies.TABLE.items()}
    counts |= {"Effusion": 13_317, "Mass": 5_782, "Pneumonia": 1_431, "Infiltration": 19_894, "Nodule": 6_331}
    film_counts = FilmCounts("nih_chest_xray14", 112_120, 60_361, counts)
    judged = verdicts(frequencies.judge(Outcome((), (), film_counts)))
    wrong = {each.claim for each in judged if each.verdict is Verdict.NOT_REPRODUCED}
    assert wrong == {"2,516 films show Effusion.", "The percentages are those of the counts."}
    assert next(each for each in judged if "percentages" in each.claim).evidence == "not of Mass"


def test_phantoms_decide_nothing_of_table_i() -> None:
    judged = verdicts(frequencies.judge(Outcome((), (), FILMS)))
    assert {each.verdict for each in judged} == {Verdict.NOT_TESTABLE}


def test_full_protocols_are_the_papers() -> None:
    """GBZ 512 with LBZ 4 is 128 ranks; VGG-16 at GBZ 8,192 on 64 ranks of 128; five epochs of warm-up to .5."""
    arm = next(arm for arm in experiment("global-batch").full.arms if arm.name == "GBZ 512, LBZ 4")
    told = training_of(Cell(arm, 0), experiment("global-batch").full.settings, (), {})
    assert plan_batches(told.gbz, told.lbz, 128, 78_468).micro_steps == 1
    assert (told.optim.base_lr, told.optim.base_batch, told.optim.lr_scaling, told.epochs) == (0.0005, 8, "linear", 10)
    vgg = training_of(Cell(topology.EXPERIMENT.full.arms[0], 0), topology.EXPERIMENT.full.settings, (), {})
    assert (vgg.gbz, vgg.optim.base_lr, vgg.optim.warmup_epochs, vgg.optim.schedule) == (8192, 0.5, 5, "step")
    assert vgg.model.weights == "imagenet"


def test_a_plan_adds_up() -> None:
    protocol = experiment("large-batch").reduced
    planned = plan_study(protocol, 3, {"np": 1, "hosts": "localhost:1"}, ON, Path("nowhere"))
    *rows, total = plan_rows(planned)
    assert total[1] == str(3 * len(protocol.arms)) == str(sum(int(row[1]) for row in rows))
    assert int(total[4].replace(",", "")) == sum(int(row[4].replace(",", "")) for row in rows)
    assert total[5] == "not known"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"scale": "data"}, "needs your films"),
        ({"scale": "paper"}, "needs your films"),
        ({"seeds": -1}, "seeds=-1"),
        ({"epochs": -2}, "epochs=-2"),
        ({"workers": 0}, "workers=0"),
        ({"workers": 2, "hosts": "a:1,b:1"}, "workers=1"),
        ({"imagenet": "vgg19=file.h5"}, "vgg19=file.h5 is not"),
        ({"imagenet": "vgg16="}, "vgg16= is not"),
    ],
)
def test_mistakes(settings: Mapping[str, object], word: str) -> None:
    with pytest.raises(UserError, match=re.escape(word)):
        StudyConfig(**settings)


def test_files_of_weights_are_by_network() -> None:
    config = StudyConfig(imagenet="vgg16=a.weights.h5,resnet50=b.weights.h5")
    assert config.imagenet_files == {"vgg16": "a.weights.h5", "resnet50": "b.weights.h5"}


def test_protocols_without_arms_have_no_plan() -> None:
    assert list(plan_rows(plan_study(Protocol((), 0), 0, {}, {}, Path("nowhere")))) == [
        ("All", "0", "", "", "0", "0.0")
    ]
