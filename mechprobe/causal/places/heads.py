"""Which attention heads carry a thought: each head's output is patched by itself.

A head moves a thought from its own token to where it is used, so heads act at tokens after the thought, above all where
the answer is decided. Heads are patched many to a batch; TransformerLens' own utility, one forward pass for each head and
run, is the reference that they are tested against, and can be asked for.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from mechprobe.causal.cases import RenderedPair
from mechprobe.causal.effects import BATCH_TOKENS, measure
from mechprobe.causal.outcomes import AnswerTokens, read_outcome
from mechprobe.causal.places.patch_shares import TextFlips, as_map, share_rows, text_flips
from mechprobe.causal.places.sites import Position, Site, SiteActs, sites_acts
from mechprobe.causal.swaps import Deltas, swap_plan
from mechprobe.models.head_patching import HeadHook, head_hooks, patch_each_head
from mechprobe.models.subject import Subject

HEAD_COLUMNS = (
    *("layer", "head", "hook_name", "position", "outcome", "indicator"),
    *("n", "effect", "low", "high", "p_value", "q_bh"),
)
HEAD_POSITIONS: tuple[Position, ...] = ("span_all", "after_span", "decision")
Engine = Literal["batched", "transformer_lens"]
Progress = Callable[[int], object]


def head_map(
    subject: Subject,
    pairs: Sequence[RenderedPair],
    *,
    positions: Sequence[Position] = HEAD_POSITIONS,
    outcomes: Sequence[str] = ("behavior",),
    engine: Engine = "batched",
    batch_tokens: int = BATCH_TOKENS,
    n_boot: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Share of the text flip's effect that patching one head's output brings, on pairs where the text matters.

    Returns:
        `HEAD_COLUMNS`: one row for each layer, head, position, outcome and indicator with n runs, and for indicator
        "all" their mean with n indicators. Empty where the text changes nothing.

    Raises:
        HookError: the model has no attention heads that can be told apart.
    """
    hooks = head_hooks(subject)
    rows: list[dict[str, object]] = []
    for outcome in outcomes:
        flips = text_flips(subject, pairs, outcome, batch_tokens=batch_tokens)
        reachable = flips.reachable(positions)
        total = sum(hook.n_heads for hook in hooks) * len(reachable) * len(flips.cases)
        bar = tqdm(total=total, desc=f"heads, {outcome}", disable=None)
        for hook in hooks if reachable else []:
            sites = [Site(hook_name=hook.hook_name, position=position) for position in reachable]
            for acts in sites_acts(subject, flips.cases, sites, outcome):
                if engine == "batched":
                    patched = _batched(subject, flips, hook, acts, batch_tokens, bar.update)
                else:
                    patched = _one_by_one(subject, flips, hook, acts, bar.update)
                found = share_rows(flips, patched, n_boot=n_boot, seed=seed)
                rows += _placed(found, hook, acts.site.position, outcome)
        bar.close()
    return as_map(rows, HEAD_COLUMNS)


def head_parts(acts: SiteActs, n_heads: int) -> Deltas:
    """Each head's part of the activation as what a case takes over from its partner; condition = head."""
    width = acts.own.shape[-1]
    owner = torch.arange(width) // (width // n_heads)

    def deltas(condition: Int[Tensor, "row"], case: Int[Tensor, "row"]) -> Tensor:
        is_head = owner[None] == condition[:, None]
        return (acts.partner[case] - acts.own[case]) * is_head[:, None]

    return deltas


def _batched(
    subject: Subject,
    flips: TextFlips,
    hook: HeadHook,
    acts: SiteActs,
    batch_tokens: int,
    progress: Progress,
) -> Float[np.ndarray, "head case"]:
    return measure(
        subject,
        flips.cases,
        flips.outcome,
        plan=swap_plan(acts, head_parts(acts, hook.n_heads)),
        n_conditions=hook.n_heads,
        batch_tokens=batch_tokens,
        progress=progress,
    ).logit_diff


def _one_by_one(
    subject: Subject, flips: TextFlips, hook: HeadHook, acts: SiteActs, progress: Progress
) -> Float[np.ndarray, "head case"]:
    columns: list[Tensor] = []
    for i, case in enumerate(flips.cases):
        end = case.own.reads[flips.outcome].at + 1
        answers = AnswerTokens.of([case.pair.outcomes[flips.outcome]])

        def metric(logits: Tensor, answers: AnswerTokens = answers) -> float:
            return float(read_outcome(logits, answers)[0])

        columns.append(
            patch_each_head(
                subject,
                hook.layer,
                token_ids=case.own.token_ids[:end].tolist(),
                partner_ids=case.partner.token_ids[:end].tolist(),
                tokens=[token for token in acts.positions[i].tolist() if token >= 0],
                metric=metric,
            )
        )
        progress(hook.n_heads)
    return torch.stack(columns, 1).double().numpy()


def _placed(
    found: Sequence[Sequence[dict[str, object]]], hook: HeadHook, position: str, outcome: str
) -> list[dict[str, object]]:
    """The rows of each head with their place."""
    place = {
        "layer": hook.layer,
        "hook_name": hook.hook_name,
        "position": position,
        "outcome": outcome,
    }
    return [place | {"head": head} | row for head, rows in enumerate(found) for row in rows]
