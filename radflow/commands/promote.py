"""Entry point `promote`: judges the best run of each model family by the policy, and acts on it."""

from __future__ import annotations

import pandas as pd
from rich.table import Table
from rich.text import Text

from radflow.cluster.threads import set_threads
from radflow.config import flatten
from radflow.errors import UserError
from radflow.plots.tables import terminal_table
from radflow.promotion.config import PromoteConfig
from radflow.promotion.decisions import Decision, decide
from radflow.promotion.model_card import RULE_HEADINGS, read_template, rules_markdown
from radflow.promotion.policy import Family, read_policy
from radflow.registry_files import find_registry_file
from radflow.terminal import print_table
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.run import Run as OwnRun
from radflow.tracking.run import tracking_run


def promote(config: PromoteConfig) -> list[Decision]:
    """Judge the candidate of each chosen family, or return to its previous champion, and print what was decided.

    Raises
    ------
    UserError
        The policy or the template is not well-formed, there is nothing to promote, or nothing to return to.
    JobError
        MLflow fails on the way. No alias is set half-way.
    """
    families = _chosen(read_policy(find_registry_file(config.policy)), config)
    template = read_template(find_registry_file(config.card))
    set_threads(0)  # before the golden image's TensorFlow
    prepare_tracking()
    name = f"{'rollback' if config.rollback else 'promote'}-{config.arch}"
    with tracking_run(name, flatten(config)) as run:
        decisions = decide(families, template, config, run)
        _log(decisions, run)
    for decision in decisions:
        print_table(_table(decision))
    return decisions


def _chosen(families: list[Family], config: PromoteConfig) -> list[Family]:
    chosen = [
        family for family in families if config.arch in ("all", family.arch) and config.task in ("all", family.task)
    ]
    if not chosen:
        names = ", ".join(family.name for family in families)
        raise UserError(f"arch={config.arch}, task={config.task} is not a family of {config.policy}; it has {names}")
    return chosen


def _log(decisions: list[Decision], run: OwnRun) -> None:
    rows = [
        {
            "Model": decision.family,
            "Candidate": decision.candidate,
            "Rule": check.rule,
            "Asked": check.asked,
            "Seen": check.seen,
            "Passed": check.result,
            "Decision": decision.outcome,
        }
        for decision in decisions
        for check in decision.judgement.checks
    ]
    if rows:
        run.log_table(pd.DataFrame(rows), "decisions.json")
    notes = [
        f"**{decision.family}**: {decision.outcome}.\n\n{rules_markdown(decision.judgement)}" for decision in decisions
    ]
    run.set_note("\n\n".join(notes))


def _table(decision: Decision) -> Table:
    title = f"{decision.family}: {decision.candidate}" if decision.candidate else decision.family
    rows = [(check.rule, check.asked, check.seen, check.result) for check in decision.judgement.checks]
    table = terminal_table(title, RULE_HEADINGS, rows)
    table.add_section()
    table.add_row("decision", "", Text(decision.outcome, style="bold"), "")
    return table
