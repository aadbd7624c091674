"""What becomes of the candidate of a family: champion, challenger or neither; and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from string import Template

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from radflow.data.sample import open_data
from radflow.errors import JobError, UserError
from radflow.evaluation.auc import auc_per_finding, mean_auc
from radflow.promotion.config import PromoteConfig
from radflow.promotion.contenders import (
    ARCH_TAG,
    DIGEST_TAG,
    TASK_TAG,
    Contender,
    best_run,
    contender_of,
    named_run,
    run_of,
)
from radflow.promotion.judgement import Judgement, judge
from radflow.promotion.lock import one_promotion_at_a_time
from radflow.promotion.model_card import write_card
from radflow.promotion.policy import Family
from radflow.promotion.registry import (
    CHALLENGER,
    CHAMPION,
    DECISION_TAG,
    PREVIOUS_TAG,
    PROMOTED,
    REASONS_TAG,
    REFUSED,
    ROLLED_BACK,
    RegisteredFamily,
)
from radflow.promotion.reporting_checklist import write_checklist
from radflow.tracking.run import Run as OwnRun
from radflow.tracking.spool import root_cause

METRIC = "test/auc/mean"
RUN_TAG = "radflow.promote_run"


@dataclass(frozen=True)
class Decision:
    """What became of a family's candidate; without one, why the champion stays."""

    family: str
    outcome: str
    candidate: str = ""
    judgement: Judgement = field(default_factory=lambda: Judgement(()))


@dataclass(frozen=True)
class _Promotion:
    """What a promotion works with."""

    client: MlflowClient
    run: OwnRun
    template: Template
    config: PromoteConfig


@dataclass(frozen=True)
class _Case:
    """A judged candidate, and the champion that it was judged against."""

    registered: RegisteredFamily
    candidate: Contender
    judgement: Judgement
    champion: ModelVersion | None


def decide(families: list[Family], template: Template, config: PromoteConfig, run: OwnRun) -> list[Decision]:
    """Judge the candidate of each family and act on it, or return to the previous champion of one.

    Raises UserError where there is no candidate or nothing to return to, and JobError where MLflow fails on the way.
    """
    try:
        promotion = _Promotion(MlflowClient(), run, template, config)
        return _roll_back(promotion, families) if config.rollback else _promote_best(promotion, families)
    except MlflowException as error:
        raise JobError(f"MLflow failed: {root_cause(error)}") from error


def _promote_best(promotion: _Promotion, families: list[Family]) -> list[Decision]:
    config = promotion.config
    if config.run:
        families = _of_run(families, config.run, promotion.client)
    digest = open_data(config.data).digest if config.data else None
    decisions = [found for family in families if (found := _promote_family(promotion, family, digest))]
    if not decisions:
        raise UserError(
            f"no finished run of arch={config.arch}, task={config.task} with a logged model"
            f"{f' on data={config.data}' if config.data else ''}; train one, for example `mlflow run . -e train`, "
            f"or give {config.policy} the family of one, radflow-<task>-<arch>"
        )
    return decisions


def _of_run(families: list[Family], run_id: str, client: MlflowClient) -> list[Family]:
    tags = named_run(client, run_id).data.tags
    task, arch = tags.get(TASK_TAG, "unknown"), tags.get(ARCH_TAG, "unknown")
    found = [family for family in families if (family.task, family.arch) == (task, arch)]
    if not found:
        names = ", ".join(family.name for family in families)
        raise UserError(f"run={run_id} is of task {task} and arch {arch}; expected a run of {names}")
    return found


def _promote_family(promotion: _Promotion, family: Family, digest: str | None) -> Decision | None:
    """Judge at leisure; then, alone, act on it if the champion is still the one that was judged against."""
    registered = RegisteredFamily(promotion.client, family.name)
    while True:
        version = registered.champion()
        champion = contender_of(run_of(promotion.client, version)) if version else None
        candidate = _candidate(promotion, family, registered, champion, digest)
        if candidate is None:
            stays = f"{_words(version)} stays {CHAMPION}; no other run competes"
            return Decision(family.name, stays) if version else None
        judgement = judge(family.rules, candidate, champion, _words(version))
        with one_promotion_at_a_time(promotion.client, promotion.run.run_id) as check_turn:
            if _number(registered.champion()) == _number(version):
                outcome = _act(promotion, _Case(registered, candidate, judgement, version), check_turn)
                return Decision(family.name, outcome, candidate.label, judgement)


def _candidate(
    promotion: _Promotion, family: Family, registered: RegisteredFamily, champion: Contender | None, digest: str | None
) -> Contender | None:
    """The run that the user named, or the best that is not and was not champion."""
    client, named = promotion.client, promotion.config.run
    if named:
        is_champion = champion is not None and champion.run.info.run_id == named
        return None if is_champion else contender_of(named_run(client, named))
    # Without a word from the user a candidate competes on the champion's data, not on whatever came last.
    if digest is None and champion is not None:
        digest = champion.digest
    decided = (PROMOTED, ROLLED_BACK)
    without = {version.run_id for version in registered.versions() if version.tags.get(DECISION_TAG) in decided}
    if champion is not None:
        without.add(champion.run.info.run_id)
    run = best_run(client, family, digest, without)
    return contender_of(run) if run else None


def _act(promotion: _Promotion, case: _Case, check_turn: Callable[[], None]) -> str:
    """Register the candidate and set its alias, as it was judged; return what was done, in words.

    The alias comes when all else is there, so that a champion has its card and its tags.
    """
    judgement, registered = case.judgement, case.registered
    stays = f"{_words(case.champion)} stays {CHAMPION}" if case.champion else f"there is no {CHAMPION}"
    if not (judgement.is_passed or judgement.is_challenger):
        return f"refused; {stays}"
    number = registered.register(case.candidate.run)
    if judgement.is_passed:
        before = f", before it {_words(case.champion)}" if case.champion else ""
        outcome, decision, make = f"version {number} is {CHAMPION}{before}", PROMOTED, registered.make_champion
    else:
        outcome, decision = f"refused; {stays}, version {number} is {CHALLENGER}", REFUSED
        make = registered.make_challenger
    _describe(promotion, case, number, outcome)
    check_turn()
    make(number)
    registered.set_tags(number, {DECISION_TAG: decision})
    return outcome


def _describe(promotion: _Promotion, case: _Case, number: str, outcome: str) -> None:
    """Write the model card and the tags of a version."""
    name, candidate = case.registered.name, case.candidate
    decision = f"{outcome[0].upper()}{outcome[1:]}."
    card = write_card(promotion.template, name, number, decision, candidate.run, candidate.tested(), case.judgement)
    case.registered.describe(number, card)
    promotion.run.log_text(card, f"model_cards/{name}-{number}.md")
    checklist = write_checklist(name, number, candidate.run, candidate.tested())
    promotion.run.log_text(checklist, f"model_cards/{name}-{number}-reporting_checklist.md")
    tags = {
        DIGEST_TAG: candidate.digest,
        METRIC: f"{mean_auc(auc_per_finding(candidate.tested())):.4f}",
        PREVIOUS_TAG: _number(case.champion),
        REASONS_TAG: case.judgement.reasons,
        RUN_TAG: promotion.run.run_id,
    }
    case.registered.set_tags(number, tags)


def _roll_back(promotion: _Promotion, families: list[Family]) -> list[Decision]:
    """Make the previous champion of the one family that has a champion champion again; raises UserError."""
    registered = [RegisteredFamily(promotion.client, family.name) for family in families]
    with_champion = [family for family in registered if family.champion()]
    if len(with_champion) != 1:
        names = ", ".join(family.name for family in with_champion) or "none"
        raise UserError(
            f"rollback=true is for one model, but of arch={promotion.config.arch}, task={promotion.config.task} "
            f"{len(with_champion)} have a champion ({names}); give arch and task of one that has"
        )
    (family,) = with_champion
    with one_promotion_at_a_time(promotion.client, promotion.run.run_id) as check_turn:
        history = family.history()
        if len(history) < 2:
            raise UserError(f"{family.name} has had no champion before version {history[-1]}; nothing to return to")
        check_turn()
        previous, present = history[-2:]
        family.return_to_previous()
        outcome = f"version {previous} is {CHAMPION} again, instead of version {present}"
        tags = {DECISION_TAG: ROLLED_BACK, REASONS_TAG: f"rolled back to version {previous}"}
        family.set_tags(present, {**tags, RUN_TAG: promotion.run.run_id})
    return [Decision(family.name, outcome)]


def _words(version: ModelVersion | None) -> str:
    return f"version {version.version}" if version else ""


def _number(version: ModelVersion | None) -> str:
    return str(version.version) if version else ""
