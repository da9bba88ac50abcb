"""The text-flip oracle: what a thought does to a model, found without touching any activation.

Each thought is flipped in the text of matched pairs, and the model answers. Where that changes nothing, the text after
the thought is written anew, so that a thought which acts only through later thoughts is found too. The oracle is the
truth that activation-level verdicts are scored against: a trained model need not do what its data planned.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from mechprobe.causal.cases import RenderedPair, natural_cases, render_pairs
from mechprobe.causal.effects import BATCH_TOKENS
from mechprobe.causal.runner import Runner
from mechprobe.causal.verdicts.strata import baseline, natural_gap, text_flip_effects
from mechprobe.causal.verdicts.verdict import Stratum, VerdictRule
from mechprobe.causal.writing.resampling import resample
from mechprobe.models.organism.truth import MeasuredThought
from mechprobe.models.subject import Subject
from mechprobe.transcripts.pairs import MatchedPair

N_SAMPLES = 4
MAX_NEW_TOKENS = 96


def measure_thoughts(
    subject: Subject,
    pairs: Sequence[MatchedPair],
    *,
    outcome: str = "behavior",
    rule: VerdictRule | None = None,
    seed: int = 0,
) -> list[MeasuredThought]:
    """Measure every indicator of the pairs by flipping it in the text.

    Raises:
        ShapeError: the sides of a pair have unequal numbers of tokens.
    """
    rule = rule or VerdictRule()
    rendered = render_pairs(subject, pairs)
    with tqdm(desc="text flips", unit=" runs", disable=None) as bar:
        runner = Runner(subject=subject, batch_tokens=BATCH_TOKENS, progress=bar.update)
        cases = natural_cases(rendered)
        base = runner.read(cases, outcome).logit_diff[0]
        other = runner.read([case.flipped for case in cases], outcome).logit_diff[0]
    whole = baseline(cases, base, other, natural_gap(base))
    names = np.array([pair.indicator for pair in rendered])
    found: list[MeasuredThought] = []
    for name in tqdm(dict.fromkeys(names.tolist()), desc="oracle", disable=None):
        effects = text_flip_effects(whole.pick(names == name))
        own = [pair for pair in rendered if pair.indicator == name]
        resampled = None if _has_effect(effects, rule) else _resampled(subject, own, outcome, seed)
        found.append(
            MeasuredThought(
                indicator=name,
                **{stratum: _number(value) for stratum, value in effects.items()},
                resampled=resampled,
                n=len(own),
                verdict=oracle_verdict(effects, resampled, rule),
            )
        )
    return found


def oracle_verdict(
    effects: Mapping[Stratum, float], resampled: float | None, rule: VerdictRule
) -> str:
    """The verdict that text-flip effects call for; it needs no controls, since nothing but the thought changed."""
    shown = {name for name, value in effects.items() if value >= rule.min_effect}
    if {"necessity", "sufficiency"} <= shown:
        return "driver"
    if "necessity" in shown:
        return "necessary_only"
    if "sufficiency" in shown:
        return "sufficient_only"
    if shown:
        return "inhibitor"
    if resampled is not None and abs(resampled) >= rule.min_resampled:
        return "text_mediated"
    return "readout_only"


def _has_effect(effects: Mapping[Stratum, float], rule: VerdictRule) -> bool:
    return any(value >= rule.min_effect for value in effects.values())


def _resampled(
    subject: Subject, pairs: Sequence[RenderedPair], outcome: str, seed: int
) -> float | None:
    """Change of the misbehaviour rate when the text after the span is regenerated."""
    drawn = resample(
        subject,
        pairs,
        outcome,
        n_samples=N_SAMPLES,
        max_new_tokens=MAX_NEW_TOKENS,
        seed=seed,
    )
    return _number(float(drawn.difference.mean())) if len(drawn.difference) else None


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
