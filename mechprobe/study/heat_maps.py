"""`examples.json`: real text with a probe's score on every token, spans that hold the indicator and look-alikes."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from mechprobe.activations.rows import span_table
from mechprobe.probes.bank import ProbeBank, ProbeSet
from mechprobe.records import atomic_write_text
from mechprobe.study.run import Run

SCORER = "dense_logistic"
CONTEXT = 40
"""Tokens shown on either side of the span."""


def write_heat_maps(run: Run) -> int:
    """Write the heat-maps' numbers; return how many examples there are."""
    probes = ProbeBank.load(run.folder / "probes").find(SCORER, run.feature_hook)
    spans = span_table(run.store.tokens, run.transcripts)
    splits = np.array([run.transcripts[c].split for c in spans["conversation"]])
    # A study without splits is scored out of fold, and any of its spans will do.
    shown: Any = spans[(splits == "test") | (splits == "")]
    examples = [
        _example(run, probes, span, kind)
        for indicator in probes.indicators
        for kind, present in (("positive", True), ("hard_negative", False))
        for span in _some(shown, indicator, present, run.config.n_examples)
    ]
    atomic_write_text(run.folder / "examples.json", json.dumps(examples) + "\n")
    return len(examples)


def _some(spans: pd.DataFrame, indicator: str, present: bool, n: int) -> Iterator[Any]:
    chosen: Any = spans[(spans["indicator"] == indicator) & (spans["present"] == present)]
    yield from chosen.drop_duplicates("transcript_id").head(n).itertuples()


def _example(run: Run, probes: ProbeSet, span: Any, kind: str) -> dict[str, Any]:
    """The stored tokens round a span, with the probe's log-odds on each."""
    tokens = run.store.tokens
    first, last = max(0, span.first_row - CONTEXT), min(len(tokens), span.last_row + 1 + CONTEXT)
    rows = np.arange(first, last)
    around = tokens.iloc[first:last]
    rows = rows[(around["conversation"] == span.conversation).to_numpy()]
    acts = run.store.acts(probes.hook_name, rows).numpy()
    return {
        "indicator": span.indicator,
        "kind": kind,
        "transcript_id": span.transcript_id,
        "turn": int(span.turn),
        "section": str(span.section),
        "tokens": token_words(run, tokens["token_id"].to_numpy()[rows]),
        "scores": [round(float(s), 3) for s in probes.probe(span.indicator).score(acts)],
        "is_span": ((rows >= span.first_row) & (rows <= span.last_row)).tolist(),
    }


def token_words(run: Run, token_ids: np.ndarray) -> list[str]:
    """Tokens as a person reads them, each with the space that stands before it."""
    tokenizer = run.subject.tokenizer
    words: list[str] = []
    for piece in tokenizer.convert_ids_to_tokens([int(token) for token in token_ids]):
        text = str(tokenizer.convert_tokens_to_string([piece]))
        joined = str(piece).startswith("##") or not _separates(tokenizer)
        words.append(text.removeprefix("##") if joined or not words else " " + text)
    return words


def _separates(tokenizer: Any) -> bool:
    """Whether two tokens decode with a space between them that neither carries (word-level, WordPiece)."""
    first, second = (tokenizer.convert_ids_to_tokens([i])[0] for i in (10, 11))
    together = str(tokenizer.convert_tokens_to_string([first, second]))
    apart = "".join(str(tokenizer.convert_tokens_to_string([piece])) for piece in (first, second))
    return together != apart
