"""HTML pages that need no network: a heading, facts, and sections with tables and pictures, in one file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from radflow.plots.report import RESEARCH_ONLY

TEMPLATE = "page.html"


@dataclass(frozen=True)
class Section:
    """A heading with a paragraph, remarks, a table and pictures below it."""

    title: str
    text: str = ""
    headings: tuple[str, ...] = ()
    rows: Sequence[Sequence[str]] = ()
    pictures: Sequence[str] = ()
    """As data: addresses, see `picture_of`."""
    remarks: Sequence[str] = ()
    has_words: bool = False
    """Whether the table's cells are sentences, which are wrapped."""
    preformatted: str = ""
    """Text whose lines and blanks are kept."""


def page_html(title: str, facts: Mapping[str, str], sections: Sequence[Section], warning: str = "") -> str:
    """Write a page; whatever is given is shown letter for letter.

    Parameters
    ----------
    title : what the page is about
    facts : what a reader must know before the numbers, by name
    sections : in their order
    warning : what makes the numbers doubtful, if anything does
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(TEMPLATE).render(
        title=title, research_only=RESEARCH_ONLY, facts=facts, warning=warning, sections=sections
    )


def picture_of(picture: Figure | Image.Image) -> str:
    """A figure as PNG, or a picture of films as JPEG, in a data: address, which a page holds in itself."""
    file = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(file, format="png")
    else:
        picture.save(file, format="JPEG", quality=88)
    kind = "png" if isinstance(picture, Figure) else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
