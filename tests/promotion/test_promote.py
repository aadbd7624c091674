from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from finished_runs import REPOSITORY, finished_run, predictions, write_policy
from markdown_it import MarkdownIt
from mlflow import MlflowClient

from radflow.commands.promote import Decision, promote
from radflow.errors import JobError, UserError
from radflow.promotion import judgement
from radflow.promotion.config import PromoteConfig
from radflow.promotion.lock import LOCK_MODEL

NAME = "radflow-chest-vgg16"
CARD = str(REPOSITORY / "registry/model_card.md")

Promote = Callable[..., Decision]


@pytest.fixture
def promoted(store: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Promote:
    """Promotes by the repository's policy of vgg16, with other rules if given: promoted(minimum_auc=0.9, run=...)."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri)
    settings = set(PromoteConfig.__dataclass_fields__)

    def run(**options: object) -> Decision:
        rules = {name: value for name, value in options.items() if name not in settings}
        chosen = {name: value for name, value in options.items() if name in settings}
        policy = write_policy(tmp_path / "policy.yaml", **rules)
        (decision,) = promote(PromoteConfig(policy=str(policy), card=CARD, **chosen))
        return decision

    return run


def aliases(store: MlflowClient) -> dict[str, str]:
    return {alias: str(version) for alias, version in store.get_registered_model(NAME).aliases.items()}


def versions(store: MlflowClient) -> dict[str, str]:
    """Run id by version."""
    return {str(each.version): each.run_id for each in store.search_model_versions(f"name = '{NAME}'")}


def test_the_first_run_becomes_champion_and_again_changes_nothing(store: MlflowClient, promoted: Promote) -> None:
    run_id = finished_run(store, 1.0)
    assert promoted().outcome == "version 1 is champion"
    assert (aliases(store), versions(store)) == ({"champion": "1"}, {"1": run_id})
    assert promoted().outcome == "version 1 stays champion; no other run competes"
    assert (aliases(store), versions(store)) == ({"champion": "1"}, {"1": run_id})
    tags = store.get_model_version(NAME, "1").tags
    assert (tags["radflow.decision"], tags["radflow.previous_champion"]) == ("promoted", "")
    assert tags["radflow.data_digest"] == "d" * 64
    assert store.get_run(tags["radflow.promote_run"]).data.tags["mlflow.note.content"].startswith(f"**{NAME}**")


def test_a_worse_run_is_refused_with_its_reasons_and_becomes_challenger(store: MlflowClient, promoted: Promote) -> None:
    finished_run(store, 1.0)
    promoted()
    worse = finished_run(store, 0.6)
    for _ in range(2):
        decision = promoted()
        assert decision.outcome == "refused; version 1 stays champion, version 2 is challenger"
        assert [(check.rule, check.passed) for check in decision.judgement.checks] == [
            ("same data", True),
            ("unseen patients", True),
            ("minimum AUC", True),
            ("against champion", False),
            ("largest gap", True),
        ]
        assert (aliases(store), versions(store)["2"]) == ({"champion": "1", "challenger": "2"}, worse)
    tags = store.get_model_version(NAME, "2").tags
    assert tags["radflow.decision"] == "refused"
    assert tags["radflow.reasons"].startswith("against champion: -0.1")
    assert "400 films of 200 patients" in tags["radflow.reasons"]


def test_a_better_run_takes_over_and_is_no_challenger_any_more(store: MlflowClient, promoted: Promote) -> None:
    finished_run(store, 1.0)
    promoted()
    better = finished_run(store, 1.6)
    refused = promoted(against_champion="better", minimum_auc=0.99)
    assert refused.outcome == "refused; version 1 stays champion"
    assert list(versions(store)) == ["1"]
    assert promoted().outcome == "version 2 is champion, before it version 1"
    assert (aliases(store), versions(store)["2"]) == ({"champion": "2"}, better)
    assert store.get_model_version(NAME, "2").tags["radflow.previous_champion"] == "1"


def test_a_run_that_does_worse_for_women_is_refused(store: MlflowClient, promoted: Promote) -> None:
    """The policy allows a gap of .1; a gap that is beyond chance and smaller is told and allowed."""
    tested = predictions(1.5, films=1200)
    sexes = np.where(np.arange(1200) // 2 % 2 == 0, "F", "M")
    blind = predictions(0.3, films=1200).probabilities
    told = np.where((sexes == "F")[:, np.newaxis], blind, tested.probabilities)
    finished_run(store, tested=replace(tested, sexes=sexes, probabilities=told))
    decision = promoted()
    assert decision.outcome == "refused; there is no champion"
    (gap,) = decision.judgement.failed
    assert gap.rule == "largest gap"
    assert gap.seen.startswith("sex F: -0.2")
    assert promoted(largest_gap=0.4).outcome == "version 1 is champion"


def test_a_challenger_that_a_laxer_policy_lets_through_keeps_its_version(
    store: MlflowClient, promoted: Promote
) -> None:
    finished_run(store, 1.0)
    promoted()
    equal = finished_run(store, 1.0)
    assert promoted().outcome.endswith("version 2 is challenger")
    lax = promoted(against_champion="not_worse", margin=0.01)
    assert lax.outcome == "version 2 is champion, before it version 1"
    assert (aliases(store), versions(store)["2"]) == ({"champion": "2"}, equal)


def test_the_candidate_is_chosen_on_validation_films(store: MlflowClient, promoted: Promote) -> None:
    finished_run(store, 1.6, validation=0.6)
    chosen = finished_run(store, 1.0, validation=0.7)
    promoted()
    assert versions(store) == {"1": chosen}


def test_rolling_back_goes_back_further_each_time_and_stays_back(store: MlflowClient, promoted: Promote) -> None:
    for skill in (0.7, 1.0, 1.4):
        finished_run(store, skill)
        promoted()
    assert aliases(store) == {"champion": "3"}
    assert promoted(rollback=True).outcome == "version 2 is champion again, instead of version 3"
    assert promoted().outcome == "version 2 stays champion; no other run competes"
    assert promoted(rollback=True).outcome == "version 1 is champion again, instead of version 2"
    with pytest.raises(UserError, match=f"{NAME} has had no champion before version 1; nothing to return to"):
        promoted(rollback=True)
    assert aliases(store) == {"champion": "1"}
    assert store.get_model_version(NAME, "3").tags["radflow.decision"] == "rolled back"
    # By name, a run that was rolled back may try again; then its predecessor is the one it replaced.
    assert promoted(run=versions(store)["3"]).outcome == "version 3 is champion, before it version 1"
    assert promoted(rollback=True).outcome == "version 1 is champion again, instead of version 3"


def test_rolling_back_heeds_an_alias_set_by_hand_and_a_version_deleted(store: MlflowClient, promoted: Promote) -> None:
    for skill in (0.7, 1.0, 1.4):
        finished_run(store, skill)
        promoted()
    store.set_registered_model_alias(NAME, "champion", "2")
    assert promoted(rollback=True).outcome == "version 1 is champion again, instead of version 2"
    store.set_registered_model_alias(NAME, "champion", "3")
    store.delete_model_version(NAME, "1")
    with pytest.raises(UserError, match="no champion before version 3"):
        promoted(rollback=True)


def test_other_data_is_refused_unless_the_policy_asks_for_the_same_films_only(
    store: MlflowClient, promoted: Promote
) -> None:
    finished_run(store, 1.0)
    promoted()
    more_training_films = finished_run(store, 1.6, digest="e" * 64)
    assert promoted().outcome == "version 1 stays champion; no other run competes"
    refused = promoted(run=more_training_films)
    assert refused.outcome == "refused; version 1 stays champion"
    assert [check.rule for check in refused.judgement.failed] == ["same data"]
    other_films = finished_run(store, 1.6, digest="e" * 64, tested=predictions(1.6, seed=1))
    incomparable = promoted(run=other_films, same_data=False)
    assert "tested on different films (400 and 400, of which 800 are in one only" in incomparable.judgement.reasons
    assert aliases(store)["champion"] == "1"
    assert promoted(run=more_training_films, same_data=False).judgement.is_passed


def test_a_run_judged_on_patients_that_it_has_seen_is_refused(store: MlflowClient, promoted: Promote) -> None:
    leaking = finished_run(store, 1.6, leakage={"leakage/patients": 31})
    decision = promoted()
    assert decision.outcome == "refused; there is no champion"
    assert [(check.rule, check.seen) for check in decision.judgement.failed] == [("unseen patients", "31 seen")]
    assert promoted(run=leaking, unseen_patients=False).outcome == "version 1 is champion"


@pytest.mark.parametrize("key", ["leakage/patients", "leakage/val_patients"])
def test_a_run_that_leaks_does_not_stand_in_the_way_of_one_that_does_not(
    store: MlflowClient, promoted: Promote, key: str
) -> None:
    """Its validation AUC is the highest because it has seen the films."""
    finished_run(store, 1.6, validation=0.9, leakage={"leakage/patients": 0, key: 5})
    honest = finished_run(store, 1.0, validation=0.7)
    assert promoted().outcome == "version 1 is champion"
    assert versions(store) == {"1": honest}


@pytest.mark.parametrize(
    ("recorded", "says"),
    [
        ({"leakage": {}}, "not known: the run is of an earlier radflow"),
        ({"leakage": {"leakage/patients": 0}, "unknown": "body.weights.h5"}, "0 seen"),
    ],
)
def test_what_is_not_known_is_told_and_not_refused(
    store: MlflowClient,
    promoted: Promote,
    monkeypatch: pytest.MonkeyPatch,
    recorded: dict[str, object],
    says: str,
) -> None:
    monkeypatch.setattr(judgement, "load_classifier", lambda uri: None)
    finished_run(store, 1.0, **recorded)
    decision = promoted(golden_image=True)
    assert decision.outcome == "version 1 is champion"
    checks = {check.rule: check for check in decision.judgement.checks}
    assert (checks["unseen patients"].passed, checks["unseen patients"].seen) == (None, says)
    # It does not spare the model its golden image.
    assert checks["golden image"].seen == "reproduced"


def test_seen_patients_beside_unknown_ones_are_refused(store: MlflowClient, promoted: Promote) -> None:
    finished_run(store, 1.0, leakage={"leakage/patients": 1}, unknown="body.weights.h5")
    assert [check.rule for check in promoted().judgement.failed] == ["unseen patients"]


def test_a_run_without_predictions_is_refused(store: MlflowClient, promoted: Promote) -> None:
    run_id = finished_run(store, 1.0, tested=predictions(1.0, films=0))
    decision = promoted()
    assert decision.outcome == "refused; there is no champion"
    assert decision.judgement.failed[0].seen.startswith(f"run {run_id[:8]} has no predictions/predictions.parquet")


def test_chance_is_below_the_minimum(store: MlflowClient, promoted: Promote) -> None:
    guesses = predictions(1.0)
    generator = np.random.default_rng(9)
    object.__setattr__(guesses, "probabilities", generator.permutation(guesses.probabilities))
    finished_run(store, 1.0, tested=guesses)
    decision = promoted(minimum_auc=0.6)
    assert [check.rule for check in decision.judgement.failed] == ["minimum AUC"]


def test_a_model_that_does_not_reproduce_its_golden_image_is_refused(
    store: MlflowClient, promoted: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def load(uri: str) -> None:
        loaded.append(uri)
        raise UserError("the golden image is off by 0.3")

    monkeypatch.setattr(judgement, "load_classifier", load)
    run_id = finished_run(store, 1.0)
    decision = promoted(golden_image=True)
    assert decision.outcome == "refused; there is no champion"
    assert decision.judgement.reasons.startswith("golden image: the golden image is off by 0.3")
    assert loaded == [f"models:/{store.get_run(run_id).outputs.model_outputs[0].model_id}"]
    # Who is refused already is not loaded.
    again = promoted(golden_image=True, minimum_auc=0.99)
    assert again.judgement.checks[-1].seen == "not tried, refused already"
    assert len(loaded) == 1


def test_families_do_not_mix(store: MlflowClient, promoted: Promote) -> None:
    finished_run(store, 1.6, task="mammo")
    finished_run(store, 1.6, arch="densenet121")
    chest = finished_run(store, 0.8)
    promoted()
    assert versions(store) == {"1": chest}
    mammo = finished_run(store, 1.0, task="mammo")
    with pytest.raises(UserError, match=f"task mammo and arch vgg16; expected a run of {NAME}"):
        promoted(run=mammo)


def test_the_model_card_says_what_the_model_is(store: MlflowClient, promoted: Promote, tmp_path: Path) -> None:
    finished_run(store, 0.8)
    promoted()
    run_id = finished_run(store, 1.0)
    promoted()
    version = store.get_model_version(NAME, "2")
    rendered = MarkdownIt("commonmark").enable("table").render(version.description)
    for words in (
        "<h1>radflow-chest-vgg16, version 2</h1>",
        "<strong>Research use only; not a medical device.</strong>",
        "Version 2 is champion, before it version 1.",
        "phantom_films, split: official, seed 0.",
        "d" * 64,
        run_id,
        "optimiser adam; epochs 3",
        "on 400 images",
        "<td>against champion</td>",
        "hardly measured: Hernia (18).",
        "Not validated for clinical use",
    ):
        assert words in rendered, words
    assert rendered.count("<table>") == 3
    artifact = store.download_artifacts(version.tags["radflow.promote_run"], f"model_cards/{NAME}-2.md", str(tmp_path))
    assert Path(artifact).read_text() == version.description


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"run": "0123456789abcdef"}, "run=0123456789abcdef is not a run of this MLflow"),
        ({"run": "x", "rollback": True}, "give neither run nor data"),
        ({"run": "x", "data": "y"}, "give one of the two"),
        ({"rollback": True}, "0 have a champion"),
        ({"arch": "resnet50"}, "arch=resnet50, task=all is not a family of .*; it has radflow-chest-vgg16"),
        ({"data": "nowhere"}, "no dataset at .*/nowhere"),
        ({}, "no finished run of arch=all, task=all with a logged model; train one"),
    ],
)
def test_a_mistake_is_one_line(promoted: Promote, options: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        promoted(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("$research_only $author", r"names the unknown place \$author"),
        ("$name", r"must name \$research_only"),
        ("$research_only costs 5 $", r"write \$\$ for a dollar sign"),
    ],
)
def test_a_spoilt_template_is_one_line(store: MlflowClient, tmp_path: Path, template: str, says: str) -> None:
    (tmp_path / "card.md").write_text(template)
    policy = write_policy(tmp_path / "policy.yaml")
    with pytest.raises(UserError, match=says):
        promote(PromoteConfig(policy=str(policy), card=str(tmp_path / "card.md")))


def test_a_promotion_that_comes_second_judges_anew(
    store: MlflowClient, promoted: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its judgement and its turn another promotion makes a better run champion."""
    from radflow.promotion import decisions as module

    finished_run(store, 0.7)
    promoted()
    good, best = finished_run(store, 1.0), finished_run(store, 1.6)
    original, others = module.judge, [best]

    def judge_slowly(*arguments: object) -> object:
        judged = original(*arguments)
        if others:
            promoted(run=others.pop())
        return judged

    monkeypatch.setattr(module, "judge", judge_slowly)
    second = promoted(run=good)
    assert second.outcome == "refused; version 2 stays champion, version 3 is challenger"
    assert aliases(store) == {"champion": "2", "challenger": "3"}
    assert [int(version.version) for version in store.search_model_versions(f"name = '{LOCK_MODEL}'")] == []


def test_a_failing_registry_is_one_line_and_sets_no_alias(
    store: MlflowClient, promoted: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    finished_run(store, 1.0)

    def fail(*arguments: object) -> None:
        raise MlflowException("disk full")

    monkeypatch.setattr(MlflowClient, "update_model_version", fail)
    with pytest.raises(JobError, match="MLflow failed: disk full"):
        promoted()
    monkeypatch.undo()
    assert aliases(store) == {}
    assert promoted().outcome == "version 1 is champion"
