"""R0: write the text after the span anew, and see whether the behaviour follows the thought through it.

With the text held fixed, a thought that only makes a later thought likely has no effect. Regenerating from the end
of the span lets it act (Bogdan et al., Thought Anchors, arXiv 2506.19143; Macar et al., Thought Branches, 2510.27484). The
two sides of a pair share their random numbers, so that what differs is the thought.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import expit

from mechprobe.causal.cases import SIDES, Case, ReadPoint, RenderedPair, RenderedSide
from mechprobe.causal.outcomes import AnswerTokens, read_outcome
from mechprobe.models.batches import TokenBatch
from mechprobe.models.subject import Subject


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Resampled:
    """The misbehaviour rate of each pair's two sides after regeneration."""

    positive: Float[np.ndarray, "pair"]
    negative: Float[np.ndarray, "pair"]
    clusters: tuple[str, ...]
    parsed: float
    """Share of the generations in which an answer was found."""

    @property
    def difference(self) -> Float[np.ndarray, "pair"]:
        """Rate with the thought minus rate without it."""
        return self.positive - self.negative


def resample(
    subject: Subject,
    pairs: Sequence[RenderedPair],
    outcome: str,
    *,
    n_samples: int,
    max_new_tokens: int,
    batch_size: int = 128,
    seed: int = 0,
) -> Resampled:
    """Regenerate both sides of each pair from the end of the span and read the outcome's probability.

    The rate of a generation is the probability of a bad answer among good and bad ones at its own answer, which
    has less noise than drawing one. Pairs without an answer on either side, and pairs whose answer stands in
    another message than their span, are left out.
    """
    usable = [pair for pair in pairs if outcome in pair.regenerable]
    usable = [p for p in usable if all(side.reads[outcome].lead for side in p.sides.values())]
    rates: dict[str, Float[np.ndarray, "pair"]] = {}
    n_parsed = 0
    for name in SIDES:
        cases = [Case(pair=pair, side=name) for pair in usable]
        found = _rates(subject, cases, outcome, n_samples, max_new_tokens, batch_size, seed)
        n_parsed += int(np.isfinite(found).sum())
        counts = np.isfinite(found).sum(1)
        rates[name] = np.where(counts > 0, np.nansum(found, 1) / np.maximum(counts, 1), np.nan)
    kept = np.isfinite(rates["positive"]) & np.isfinite(rates["negative"]) if usable else []
    return Resampled(
        positive=rates["positive"][kept] if usable else np.zeros(0),
        negative=rates["negative"][kept] if usable else np.zeros(0),
        clusters=tuple(p.cluster for p, keep in zip(usable, kept, strict=True) if keep),
        parsed=n_parsed / max(1, 2 * n_samples * len(usable)),
    )


def answer_start(token_ids: Sequence[int], read: ReadPoint, *, search_from: int) -> int | None:
    """Where the answer starts in generated text: right after the tokens that led to it in the original."""
    width = len(read.lead)
    for start in range(search_from, len(token_ids) - width + 1):
        if tuple(token_ids[start : start + width]) == read.lead:
            return start + width
    return None


def _rates(
    subject: Subject,
    cases: Sequence[Case],
    outcome: str,
    n_samples: int,
    max_new_tokens: int,
    batch_size: int,
    seed: int,
) -> Float[np.ndarray, "pair sample"]:
    rates = np.full((len(cases), n_samples), np.nan)
    jobs = [(case, sample) for case in range(len(cases)) for sample in range(n_samples)]
    for start in range(0, len(jobs), batch_size):
        chunk = jobs[start : start + batch_size]
        prompts = [_prefix(cases[case].own) for case, _sample in chunk]
        written = subject.generate(
            prompts,
            max_new_tokens=max_new_tokens,
            temperature=1.0,
            seed=seed + start,
            stop_token_ids=_stops(cases, outcome),
        )
        texts = [prompt + list(new) for prompt, new in zip(prompts, written, strict=True)]
        for (case, sample), rate in zip(
            chunk, _read(subject, cases, outcome, chunk, texts), strict=True
        ):
            rates[case, sample] = rate
    return rates


def _prefix(side: RenderedSide) -> list[int]:
    return side.token_ids[: int(side.span_tokens[-1]) + 1].tolist()


def _stops(cases: Sequence[Case], outcome: str) -> list[int]:
    stops = {case.own.reads[outcome].stop for case in cases}
    return sorted(stop for stop in stops if stop is not None)


def _read(
    subject: Subject,
    cases: Sequence[Case],
    outcome: str,
    chunk: Sequence[tuple[int, int]],
    texts: Sequence[list[int]],
) -> list[float]:
    """P(bad) / (P(bad) + P(good)) where each text's answer starts; NaN where it has none."""
    starts = [
        answer_start(
            text,
            cases[case].own.reads[outcome],
            search_from=int(cases[case].own.span_tokens[-1]) + 1,
        )
        for (case, _sample), text in zip(chunk, texts, strict=True)
    ]
    rates = [np.nan] * len(chunk)
    found = [(row, start) for row, start in enumerate(starts) if start is not None]
    if not found:
        return rates
    ids = [texts[row][:start] for row, start in found]
    answers = AnswerTokens.of(
        [cases[chunk[row][0]].pair.outcomes[outcome] for row, _start in found]
    )
    logits = subject.run(
        TokenBatch.of(ids, subject.pad_id),
        positions=torch.tensor([len(text) - 1 for text in ids]),
    )
    for (row, _start), value in zip(found, read_outcome(logits, answers)[0].tolist(), strict=True):
        rates[row] = float(expit(value))
    return rates
