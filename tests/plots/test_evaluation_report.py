from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from benchmarks.drawn_predictions import drawn_predictions
from radflow.evaluation.evaluation import Evaluation, evaluate
from radflow.evaluation.thresholds import choose_thresholds
from radflow.plots.evaluation_report import evaluation_figures, evaluation_html
from radflow.plots.page import Section

TITLE = "densenet121 on films, test"


def evaluated(names: tuple[str, ...] = ("Mass", "Pleural_Thickening")) -> Evaluation:
    drawn = drawn_predictions(400, 2, np.random.default_rng(0), findings=2)
    sexes = np.where(np.arange(400) // 2 % 2 == 0, "F", "M")
    films = replace(drawn, findings=names, sexes=sexes)
    return evaluate(films, films, choose_thresholds(films))


def page_of(evaluation: Evaluation, **options: object) -> str:
    figures = evaluation_figures(evaluation, TITLE, bool(options.get("has_literature")))
    return evaluation_html(evaluation, figures, TITLE, {"Model": "<b>net</b>"}, **options)


def test_every_number_stands_in_the_page_with_its_interval() -> None:
    evaluation = evaluated()
    page = page_of(evaluation)
    for finding in ("Mass", "Pleural_Thickening"):
        area = evaluation.aucs[finding]
        assert f"{area.auc:.3f} ({area.low:.3f} to {area.high:.3f})" in page
        for estimate in vars(evaluation.measures[finding]).values():
            assert str(estimate) in page
        for points in evaluation.operating_points.values():
            assert all(str(share) in page for share in vars(points[finding]).values())
    assert all(f"{part.column}: {part.value}" in page for part in evaluation.subgroups)
    assert len(evaluation.subgroups) == 2
    assert page.count("data:image/png;base64,") == 4
    assert "Research use only" in page


def test_a_page_needs_no_network_and_shows_names_letter_for_letter() -> None:
    page = page_of(evaluated(("<script>alert(1)</script>", "A & B")), warning="3 of 9 test patients were seen")
    text = re.sub(r"data:image/[a-z]+;base64,[\w+/=]+", "", page)
    assert not re.search(r"https?:|src=\"(?!data)|<script|<link|@import", text.replace('src=""', ""))
    assert "&lt;script&gt;" in text
    assert "A &amp; B" in text
    assert "&lt;b&gt;net&lt;/b&gt;" in text
    assert "3 of 9 test patients were seen. AUCs of patients" in text


def test_the_literature_stands_beside_films_of_its_kind_alone() -> None:
    evaluation = evaluated()
    assert "Beside the literature" not in page_of(evaluation)
    page = page_of(evaluation, has_literature=True)
    assert "official test list, 25,596 films" in page
    assert "random 70/10/20 split of patients" in page
    assert "CheXNet 2017" in page


def test_further_sections_follow() -> None:
    extra = [Section("Where the model looks", "", ("Finding",), [("Mass",)])]
    assert page_of(evaluated(), extra=extra).rindex("Where the model looks") > page_of(evaluated()).rindex("Subgroups")
