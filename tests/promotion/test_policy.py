from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from finished_runs import REPOSITORY

from radflow.errors import UserError
from radflow.promotion.policy import Rules, read_policy

PUBLISHED = REPOSITORY / "registry/policy.yaml"


def written(path: Path, **changes: object) -> Path:
    policy = yaml.safe_load(PUBLISHED.read_text())
    path.write_text(yaml.safe_dump({**policy, **changes}))
    return path


def test_the_published_policy_asks_all_of_every_family() -> None:
    families = read_policy(PUBLISHED)
    tasks, architectures = ("chest", "mammo", "breast", "other"), ("densenet121", "vgg16", "resnet50")
    assert [family.name for family in families] == [
        f"radflow-{task}-{arch}" for task in tasks for arch in architectures
    ]
    assert all(family.name == f"radflow-{family.task}-{family.arch}" for family in families)
    strict = Rules(
        minimum_auc=0.55,
        same_data=True,
        against_champion="better",
        margin=0,
        confidence=0.95,
        golden_image=True,
        unseen_patients=True,
        largest_gap=0.1,
    )
    assert all(family.rules == strict for family in families)


def test_the_policy_explains_every_rule() -> None:
    comments = "".join(line for line in PUBLISHED.read_text().splitlines() if line.startswith("#"))
    for rule in dataclasses.fields(Rules):
        assert f"#   {rule.name} " in comments


def test_a_policy_that_does_not_name_unseen_patients_asks_for_them(tmp_path: Path) -> None:
    defaults = yaml.safe_load(PUBLISHED.read_text())["defaults"]
    del defaults["unseen_patients"]
    assert all(family.rules.unseen_patients for family in read_policy(written(tmp_path / "p.yaml", defaults=defaults)))


def test_a_task_of_one_s_own_has_families(tmp_path: Path) -> None:
    (family,) = read_policy(written(tmp_path / "policy.yaml", families={"radflow-knee_mri-vgg16": {}}))
    assert (family.task, family.arch) == ("knee_mri", "vgg16")


def test_a_family_overrides_the_defaults(tmp_path: Path) -> None:
    own = {"minimum_auc": 0.7, "against_champion": "not_worse", "margin": 0.01}
    (family,) = read_policy(written(tmp_path / "policy.yaml", families={"radflow-mammo-vgg16": own}))
    assert (family.task, family.arch) == ("mammo", "vgg16")
    rules = family.rules
    assert (rules.minimum_auc, rules.against_champion, rules.margin) == (0.7, "not_worse", 0.01)
    assert rules.confidence == 0.95


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": 1}, r"has version 1; expected version: 2"),
        ({"families": {}}, "families names no family"),
        ({"families": ["radflow-chest-vgg16"]}, r"families is \['radflow-chest-vgg16'\]; expected `name: value` lines"),
        ({"families": {"radflow-Knee!-vgg16": {}}}, "families.radflow-Knee!-vgg16 is not a name of a family"),
        ({"families": {"chest-vgg16": {}}}, "families.chest-vgg16 is not a name of a family"),
        ({"families": {"radflow-chest-vgg19": {}}}, "families.radflow-chest-vgg19 is not a name of a family"),
        (
            {"families": {"radflow-chest-vgg16": {"minimum": 0.5}}},
            "families.radflow-chest-vgg16 has the unknown key 'mini",
        ),
        ({"families": {"radflow-chest-vgg16": {"margin": 0.1}}}, "has margin 0.1 with against_champion better"),
        ({"defaults": {"minimum_auc": 0.5}}, "families.radflow-breast-densenet121 has no same_data"),
        ({"defaults": {"minimum_auc": "high"}}, "defaults.minimum_auc is 'high'; expected a number from 0 to 1"),
        ({"defaults": {"minimum_auc": True}}, "defaults.minimum_auc is True; expected a number"),
        ({"defaults": {"minimum_auc": float("nan")}}, "defaults.minimum_auc is nan; expected a number"),
        ({"defaults": {"confidence": 95}}, "defaults.confidence is 95; expected a number from 0.5 to 0.999"),
        ({"defaults": {"same_data": "yes, please"}}, "defaults.same_data is 'yes, please'; expected true or false"),
        ({"defaults": {"against_champion": ["better"]}}, "expected better or not_worse"),
        ({"rules": {}}, "has the unknown key 'rules'"),
    ],
)
def test_a_malformed_policy_is_one_line_that_names_the_key(
    changes: dict[str, object], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=says) as error:
        read_policy(written(tmp_path / "policy.yaml", **changes))
    assert "\n" not in str(error.value)
    assert "policy.yaml" in str(error.value)


def test_a_policy_of_the_first_format_is_told_from_a_broken_one(tmp_path: Path) -> None:
    old = tmp_path / "policy.yaml"
    old.write_text("radflow-chest-vgg16: {arch: vgg16, metric: test/auc/mean, minimum: 0.55}\n")
    with pytest.raises(UserError, match="has no key 'version'; expected version: 2"):
        read_policy(old)


@pytest.mark.parametrize("content", [b"version: [2", b"\xff\xfe", b"", b"- 1\n"])
def test_what_is_no_policy_at_all_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"policy\.yaml") as error:
        read_policy(tmp_path / "policy.yaml")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"nowhere\.yaml cannot be read"):
        read_policy(tmp_path / "nowhere.yaml")
