"""Token heat-maps as HTML: each token tinted by its score, labelled spans underlined, all text escaped."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from mechprobe.errors import DataError
from mechprobe.reports.estimates import to_text
from mechprobe.reports.run_files import EXAMPLES, run_again
from mechprobe.reports.wording import KIND_WORDS, number, plain

WINDOW = 140
"""Tokens shown of a long example, round its span."""
SCALE_QUANTILE = 0.95
WORD_START = ("Ġ", "▁")


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatExample:
    """One piece of text with its tinted tokens."""

    kind: str
    title: str
    source: str
    text: Markup
    top: float
    """The highest score inside the span, or anywhere where there is no span."""


def heat_scale(examples: Sequence[Mapping[str, Any]], key: str) -> float:
    """The score that gets the full tint: the 95th percentile of the absolute scores, one for all examples."""
    scores = [abs(float(score)) for example in examples for score in example[key] if _known(score)]
    return float(np.quantile(scores, SCALE_QUANTILE)) or 1.0 if scores else 1.0


def heat_examples(
    examples: Sequence[Mapping[str, Any]], indicator: str, limit: int = 3
) -> list[HeatExample]:
    """The first `limit` positives and hard negatives of an indicator, on one scale.

    Raises:
        DataError: an example lacks a field, or its tokens, scores and span marks differ in number.
    """
    mine = [_checked(example) for example in examples if example.get("indicator") == indicator]
    scale = heat_scale(mine, "scores")
    chosen: list[HeatExample] = []
    for kind in dict.fromkeys(("positive", *(str(example["kind"]) for example in mine))):
        of_kind = [example for example in mine if example["kind"] == kind]
        chosen.extend(_heat_example(example, scale) for example in of_kind[:limit])
    return chosen


def _checked(example: Mapping[str, Any]) -> Mapping[str, Any]:
    lacking = [name for name in ("kind", "tokens", "scores", "is_span") if name not in example]
    if lacking:
        raise DataError(
            f"an example in examples.json lacks {', '.join(lacking)}; {run_again(EXAMPLES)}"
        )
    lengths = {name: len(example[name]) for name in ("tokens", "scores", "is_span")}
    if len(set(lengths.values())) > 1:
        raise DataError(
            f"an example of {example['indicator']!r} in examples.json has {lengths}; the three must be "
            f"of one length; {run_again(EXAMPLES)}"
        )
    return example


def _heat_example(example: Mapping[str, Any], scale: float) -> HeatExample:
    kind = str(example["kind"])
    scores = [float(score) if _known(score) else math.nan for score in example["scores"]]
    marks = [bool(mark) for mark in example["is_span"]]
    inside = [score for score, mark in zip(scores, marks, strict=True) if mark] or scores
    source = [to_text(example.get("transcript_id")), to_text(example.get("section"))]
    turn = example.get("turn")
    if turn is not None:
        source.insert(1, f"turn {turn}")
    return HeatExample(
        kind=kind,
        title={"positive": "Positive", "hard_negative": "Hard negative"}.get(
            kind, plain(KIND_WORDS.get(kind, kind))
        ),
        source=" · ".join(part for part in source if part),
        text=heat_text([str(token) for token in example["tokens"]], scores, marks, scale),
        top=max((score for score in inside if _known(score)), default=math.nan),
    )


def heat_text(
    tokens: Sequence[str], scores: Sequence[float], is_span: Sequence[bool], scale: float
) -> Markup:
    """Tinted tokens as HTML, cut to a window round the span where the text is long."""
    first, last = _window(scores, is_span)
    words = readable_tokens(tokens)
    parts = ['<span class="cut">… </span>'] if first > 0 else []
    parts.extend(_token(words[i], scores[i], is_span[i], scale) for i in range(first, last))
    if last < len(tokens):
        parts.append('<span class="cut"> …</span>')
    return Markup("".join(parts))


def _window(scores: Sequence[float], is_span: Sequence[bool]) -> tuple[int, int]:
    n = len(scores)
    if n <= WINDOW:
        return 0, n
    marked = [i for i, mark in enumerate(is_span) if mark]
    if not marked:
        known = [(score, i) for i, score in enumerate(scores) if _known(score)]
        marked = [max(known)[1]] if known else [0]
    spare = max(WINDOW - (marked[-1] - marked[0] + 1), 40) // 2
    first = max(marked[0] - spare, 0)
    return first, min(max(marked[-1] + spare + 1, first + 1), n)


def _token(word: str, score: float, is_span: bool, scale: float) -> str:
    if not _known(score):
        return f'<span class="t{" s" if is_span else ""}">{escape(word)}</span>'
    heat = min(abs(score) / scale, 1.0)
    sign = "p" if score >= 0 else "n"
    return (
        f'<span class="t {sign}{" s" if is_span else ""}" style="--h:{100 * heat:.0f}%" '
        f'title="{number(score)}">{escape(word)}</span>'
    )


def readable_tokens(tokens: Sequence[str]) -> list[str]:
    """Tokens with the spaces that their tokenizer hides: "Ġ" and "▁" start a word, "##" goes on with one.

    Where no token carries a space of any kind, each is a word and gets one before it.
    """
    spaced = [_spaced(token) for token in tokens]
    if any(sign.isspace() for token in spaced for sign in token):
        return spaced
    return [
        token[2:] if token.startswith("##") and len(token) > 2 else token if i == 0 else f" {token}"
        for i, token in enumerate(spaced)
    ]


def _spaced(token: str) -> str:
    for sign in WORD_START:
        token = token.replace(sign, " ")
    return token.replace("Ċ", "\n")


def _known(score: Any) -> bool:
    return score is not None and not math.isnan(float(score))
