"""A page to browse features in: one HTML file with compact JSON inside, in the report's look, that needs no server."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mechprobe import __version__
from mechprobe.records import atomic_write_text
from mechprobe.reports.html import PAGES
from mechprobe.saes.describing.company import IndicatorCompany
from mechprobe.saes.describing.descriptions import FeatureDescription
from mechprobe.saes.describing.directions import LogitLens, Neighbours
from mechprobe.saes.examples import FeatureExample

BROWSER_NAME = "features.html"
N_INDICATORS = 4
"""Indicators of largest lift that are shown of a feature."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FeatureFacts:
    """What is known of features beyond their activations; what a run does not have is left out of the page."""

    company: IndicatorCompany | None = None
    lens: LogitLens | None = None
    neighbours: Neighbours | None = None
    rankings: Mapping[str, Sequence[Mapping[str, Any]]] = field(
        default_factory=dict[str, Sequence[Mapping[str, Any]]]
    )
    """Indicator -> its best features: `feature`, `auroc`, `p_value`, best first."""
    falsified: Mapping[int, Sequence[Mapping[str, Any]]] = field(
        default_factory=dict[int, Sequence[Mapping[str, Any]]]
    )
    """Feature -> what falsifiers said of it: `indicator`, `falsifier`, `figure`, `reading`."""


def write_feature_browser(
    path: Path,
    descriptions: Iterable[FeatureDescription],
    word_of: Callable[[Sequence[int]], Sequence[str]],
    *,
    title: str,
    hook_name: str,
    facts: FeatureFacts | None = None,
) -> Path:
    """Write the page and return its path.

    Args:
        word_of: token ids -> how each reads, with the space before it where it has one.
        title: of the run.
    """
    facts = facts or FeatureFacts()
    tokens, transcripts = _Numbering(), _Numbering()
    features = [_feature(one, facts, tokens, transcripts) for one in descriptions]
    data: dict[str, Any] = {
        "words": list(word_of([int(token) for token in tokens.order])),
        "transcripts": transcripts.order,
        "indicators": list(facts.company.indicators) if facts.company else [],
        "rankings": {
            name: [
                [row["feature"], _short(row["auroc"]), _short(row.get("p_value"))] for row in rows
            ]
            for name, rows in facts.rankings.items()
        },
        "features": features,
    }
    environment = Environment(
        loader=FileSystemLoader(PAGES), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("features.html").render(
        title=title,
        hook_name=hook_name,
        n_features=len(features),
        n_dead=sum(not one["n"] for one in features),
        version=__version__,
        style=Markup((PAGES / "style.css").read_text(encoding="utf-8")),
        script=Markup((PAGES / "features.js").read_text(encoding="utf-8")),
        data=Markup(_inline(data)),
    )
    atomic_write_text(path, page)
    return path


@dataclass(frozen=True, kw_only=True, slots=True)
class _Numbering:
    """Values numbered in the order in which they turn up, so that each is written once."""

    of: dict[Any, int] = field(default_factory=dict[Any, int])

    def __call__(self, value: Any) -> int:
        return self.of.setdefault(value, len(self.of))

    @property
    def order(self) -> list[Any]:
        return list(self.of)


def _feature(
    one: FeatureDescription, facts: FeatureFacts, tokens: _Numbering, transcripts: _Numbering
) -> dict[str, Any]:
    """One feature under short names; `features.js` says in the same order what each is."""
    scale = one.largest or 1.0
    found: dict[str, Any] = {
        "i": one.feature,
        "n": one.n_active,
        "d": _short(one.density),
        "m": _short(one.largest),
        "a": _short(one.mean),
        "h": one.bars.tolist(),
        "x": [_example(example, scale, tokens, transcripts) for example in one.top],
        "q": [
            [
                _short(band.low),
                _short(band.high),
                _short(band.share),
                [_example(example, scale, tokens, transcripts) for example in band.examples],
            ]
            for band in one.bands
        ],
        "w": [[tokens(word.token_id), word.count, _short(word.lift)] for word in one.words],
    }
    if facts.lens is not None:
        lens, at = facts.lens, one.feature
        found["l"] = _pairs(lens.top_ids[at].tolist(), lens.top[at].tolist(), tokens)
        found["b"] = _pairs(lens.bottom_ids[at].tolist(), lens.bottom[at].tolist(), tokens)
        found["s"] = _short(float(lens.spread[at]))
    if facts.neighbours is not None:
        near = facts.neighbours
        cosines = near.cosine[one.feature].tolist()
        found["k"] = [
            [int(other), _short(cosine)]
            for other, cosine in zip(near.feature[one.feature].tolist(), cosines, strict=True)
        ]
    if facts.company is not None:
        found["g"] = _company(facts.company, one.feature)
    if said := facts.falsified.get(one.feature):
        found["f"] = [
            [row["indicator"], row["falsifier"], _short(row["figure"]), row["reading"]]
            for row in said
        ]
    return found


def _company(company: IndicatorCompany, feature: int) -> list[list[Any]]:
    lift = np.nan_to_num(company.lift[:, feature], nan=0.0)
    best = [at for at in np.argsort(-lift, kind="stable")[:N_INDICATORS].tolist() if lift[at] > 0]
    return [[at, _short(float(company.share[at, feature])), _short(float(lift[at]))] for at in best]


def _example(
    example: FeatureExample, scale: float, tokens: _Numbering, transcripts: _Numbering
) -> list[Any]:
    """Transcript, position, tokens, and place and tint (0 to 100) of each token that the feature is active on."""
    heat: list[int] = []
    for place, act in enumerate(example.acts):
        if act:
            heat += [place, round(100 * act / scale)]
    return [
        transcripts(example.transcript_id),
        example.position,
        [tokens(token) for token in example.token_ids],
        heat,
    ]


def _pairs(ids: Sequence[int], values: Sequence[float], tokens: _Numbering) -> list[list[Any]]:
    return [[tokens(token), _short(value)] for token, value in zip(ids, values, strict=True)]


def _short(value: Any) -> float | None:
    """Three significant digits; what is not a number becomes null."""
    if value is None or not np.isfinite(value):
        return None
    return float(f"{float(value):.3g}")


def _inline(data: Mapping[str, Any]) -> str:
    """JSON that may stand inside of a script element, whatever the texts hold."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
