"""Where the writing of a thought is steered: chosen on texts of the select split, never on those that are reported."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from tqdm import tqdm

from mechprobe.causal.checks.controls import random_directions
from mechprobe.causal.writing.free_config import FreeTextConfig
from mechprobe.causal.writing.free_prompts import prompts_of_pairs
from mechprobe.causal.writing.free_runs import FreeRuns, action_rate, plan_rate, run_free
from mechprobe.causal.writing.free_tables import PlanRules
from mechprobe.causal.writing.neutral import NeutralText
from mechprobe.causal.writing.pushes import Push
from mechprobe.causal.writing.strength import calibrate
from mechprobe.causal.writing.writing_directions import (
    WritingDirection,
    writing_acts,
    writing_directions,
)
from mechprobe.models.subject import Subject
from mechprobe.transcripts.pairs import MatchedPair
from mechprobe.transcripts.transcript import Transcript


def fit_writing(
    subject: Subject,
    fit: Sequence[Transcript],
    hook_name: str,
    indicators: Sequence[str],
    config: FreeTextConfig,
) -> list[WritingDirection]:
    """The writing direction of each indicator at a hook point.

    Raises:
        DataError: see `writing_directions`.
    """
    acts = writing_acts(subject, fit, hook_name, n_transcripts=config.n_writing_transcripts)
    return writing_directions(acts, indicators)


def steering_strength(
    subject: Subject,
    pairs: Sequence[MatchedPair],
    neutral: NeutralText,
    fit: Sequence[Transcript],
    indicators: Sequence[str],
    config: FreeTextConfig,
    *,
    plan: PlanRules | None = None,
) -> dict[str, float]:
    """How much steering after each block, at equal damage, raises the rate of what it steers towards.

    Args:
        pairs: of the select split.
        plan: how to see that a thought is written; without it the rate of bad actions counts, and either way.

    Returns:
        Hook point -> mean change of the rate over the indicators, in the order of the blocks.
    """
    prompts = prompts_of_pairs(
        subject, spread_pairs(pairs, config.n_select_prompts), config.outcome
    )
    blocks = [f"blocks.{layer}.hook_resid_post" for layer in range(subject.n_layers)]
    found: dict[str, float] = {}
    for hook_name in tqdm(blocks, desc="where writing is steered", disable=None):
        own = fit_writing(subject, fit, hook_name, indicators, config)
        pushes = [
            push
            for push in writing_pushes(subject, neutral, hook_name, own, config, n_random=0)
            if push.amount > 0
        ]
        runs = run_free(subject, prompts, pushes, hook_name, config.writing("writing"))
        changes = [_change(runs, at, plan) for at in range(len(pushes))]
        found[hook_name] = float(np.nanmean(changes)) if np.isfinite(changes).any() else 0.0
    return found


def _change(runs: FreeRuns, condition: int, plan: PlanRules | None) -> float:
    if plan is None:
        return abs(action_rate(runs, condition).difference.value)
    return plan_rate(runs, condition, plan(runs.names[condition].indicator)).difference.value


def writing_pushes(
    subject: Subject,
    neutral: NeutralText,
    hook_name: str,
    found: Sequence[WritingDirection],
    config: FreeTextConfig,
    *,
    n_random: int,
) -> list[Push]:
    """Each writing direction up and down by its amount of equal damage, and random ones by theirs."""
    vectors = torch.stack([one.direction.vector for one in found])
    if n_random:
        drawn = random_directions(n_random, subject.width(hook_name), seed=config.seed + 8)
        vectors = torch.cat([vectors, drawn])
    with tqdm(desc="amounts of equal damage", unit=" passes", disable=None) as bar:
        amounts = calibrate(
            subject, neutral, hook_name, vectors, target=config.target_kl, progress=bar.update
        )
    pushes: list[Push] = []
    for i, vector in enumerate(torch.unbind(vectors)):
        is_own = i < len(found)
        gap = found[i].direction.gap if is_own else float("nan")
        for amount in (float(amounts.adding.amounts[i]), -float(amounts.removing.amounts[i])):
            pushes.append(
                Push(
                    indicator=found[i].direction.indicator if is_own else "",
                    direction=found[i].direction.name if is_own else "random",
                    strength=amount / gap,
                    control="none" if is_own else "random",
                    draw=0 if is_own else i - len(found),
                    vector=vector,
                    amount=amount,
                )
            )
    return pushes


def strongest(strengths: Mapping[str, float]) -> str:
    """The hook point of the largest change; of equals the earliest."""
    return max(strengths, key=lambda name: strengths[name])


def spread_pairs(pairs: Sequence[MatchedPair], n: int) -> list[MatchedPair]:
    """`n` pairs at even distances, so that all indicators have their share."""
    places = np.linspace(0, len(pairs) - 1, min(n, len(pairs))).round().astype(int)
    return [pairs[i] for i in dict.fromkeys(places.tolist())]
