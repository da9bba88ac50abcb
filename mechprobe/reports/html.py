"""Pages from templates. Jinja2 escapes every value; only text that this room built itself is marked as safe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mechprobe.reports.falsified import READING_SIGNS
from mechprobe.reports.figures import plotly_script
from mechprobe.reports.generalisation import CELL_WORDS
from mechprobe.reports.marks import effect_mark, forest_axis, forest_mark
from mechprobe.reports.wording import (
    CONTROL_WORDS,
    DAMAGE_WORDS,
    FALSIFIER_WORDS,
    FIGURE_WORDS,
    FUSION_WORDS,
    POSITION_WORDS,
    ROLE_WORDS,
    STRATUM_WORDS,
    UNIT_WORDS,
    VERDICT_WORDS,
    count,
    interval,
    number,
    operation_words,
    p_value,
    plain,
    removal_words,
    scorer_words,
    share,
    signed,
    verdict_word,
)

PAGES = Path(__file__).with_name("pages")
_FILTERS: dict[str, Any] = {
    "number": number,
    "signed": signed,
    "share": share,
    "count": count,
    "p_value": p_value,
    "plain": plain,
    "removal": removal_words,
    "scorer": scorer_words,
    "operation": operation_words,
    "verdict": verdict_word,
    "forest_mark": forest_mark,
    "effect_mark": effect_mark,
}


def render_page(context: Mapping[str, Any]) -> str:
    """Fill the report's page; style sheet, script and plotly.js are inlined, each once."""
    environment = Environment(
        loader=FileSystemLoader(PAGES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    given: dict[str, Any] = {
        "interval": interval,
        "forest_axis": forest_axis,
        "verdict_words": VERDICT_WORDS,
        "unit_words": UNIT_WORDS,
        "role_words": ROLE_WORDS,
        "stratum_words": STRATUM_WORDS,
        "control_words": CONTROL_WORDS,
        "position_words": POSITION_WORDS,
        "damage_words": DAMAGE_WORDS,
        "figure_words": FIGURE_WORDS,
        "falsifier_words": FALSIFIER_WORDS,
        "fusion_words": FUSION_WORDS,
        "reading_signs": READING_SIGNS,
        "cell_words": list(CELL_WORDS.values()),
        "style": _own("style.css"),
        "script": _own("page.js"),
        "plotly": Markup(plotly_script()),
    }
    environment.globals.update(given)
    return environment.get_template("report.html").render(context)


def _own(name: str) -> Markup:
    return Markup((PAGES / name).read_text(encoding="utf-8"))
