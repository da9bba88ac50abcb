"""`examples.json`: real text with a probe's score on every token, spans that hold the indicator and look-alikes.

A score is the probe's log-odds above its threshold, which one in a hundred of the other spans' tokens exceeds: 0 is where
a monitor would start to fire.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from mechprobe.activations.rows import span_table, span_tokens
from mechprobe.evaluation.metrics import threshold_at_fpr
from mechprobe.probes.bank import ProbeBank
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.records import atomic_write_text
from mechprobe.study.run import Run

SCORER = "dense_logistic"
FPR_TARGET = 0.01
CONTEXT = 40
"""Tokens shown on either side of the span."""


def write_heat_maps(run: Run) -> int:
    """Write the heat-maps' numbers; return how many examples there are."""
    probes = ProbeBank.load(run.folder / "probes").find(SCORER, run.feature_hook)
    spans = span_table(run.store.tokens, run.transcripts)
    splits = np.array([run.transcripts[c].split for c in spans["conversation"]])
    # A study without splits is scored out of fold, and any of its spans will do.
    shown: Any = spans[(splits == "test") | (splits == "")]
    thresholds = _thresholds(run, probes, spans, splits)
    examples = [
        _example(run, probes, span, kind, thresholds[indicator])
        for indicator in probes.indicators
        for kind, present in (("positive", True), ("hard_negative", False))
        for span in _some(shown, indicator, present, run.config.n_examples)
    ]
    atomic_write_text(run.folder / "examples.json", json.dumps(examples) + "\n")
    return len(examples)


def _thresholds(
    run: Run, probes: ProbeSet, spans: pd.DataFrame, splits: np.ndarray
) -> dict[str, float]:
    """Score that one in a hundred of the tokens of spans without the indicator exceeds."""
    chosen: Any = spans[(splits == "select") | (splits == "")]
    tokens = span_tokens(chosen)
    scores = probes.score_all(run.store.acts(probes.hook_name, tokens["row"].to_numpy()).numpy())
    named = chosen["indicator"].to_numpy()[tokens["span"].to_numpy()]
    held = chosen["present"].to_numpy()[tokens["span"].to_numpy()]
    return {
        indicator: threshold_at_fpr(
            scores[(named != indicator) | ~held, at].astype(np.float64), FPR_TARGET
        )
        for at, indicator in enumerate(probes.indicators)
    }


def _some(spans: pd.DataFrame, indicator: str, present: bool, n: int) -> Iterator[Any]:
    chosen: Any = spans[(spans["indicator"] == indicator) & (spans["present"] == present)]
    yield from chosen.drop_duplicates("transcript_id").head(n).itertuples()


def _example(run: Run, probes: ProbeSet, span: Any, kind: str, threshold: float) -> dict[str, Any]:
    """The stored tokens round a span, with the probe's log-odds above the threshold on each."""
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
        "scores": [
            round(float(s) - threshold, 3) for s in probes.probe(span.indicator).score(acts)
        ],
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
