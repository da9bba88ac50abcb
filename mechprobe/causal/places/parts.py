"""Which part of the model carries a thought: the residual stream, or what one attention or MLP layer adds to it.

Patching the stream after a block says that the thought has got there; patching what a layer adds says that this layer
brings it there. A part that adds nothing of it has no effect, even where the stream carries all (arXiv 2309.16042).
"""

from collections.abc import Sequence

import pandas as pd
from tqdm import tqdm

from mechprobe.causal.cases import RenderedPair
from mechprobe.causal.effects import BATCH_TOKENS, measure, patch_plan
from mechprobe.causal.places.patch_shares import as_map, share_rows, text_flips
from mechprobe.causal.places.site_map import layer_of
from mechprobe.causal.places.sites import POSITIONS, Position, Site, sites_acts
from mechprobe.errors import HookError
from mechprobe.models.subject import Subject

PARTS = {
    "residual": ("hook_out",),
    "attention": ("hook_attn_out", "attn.hook_out"),
    "mlp": ("hook_mlp_out", "mlp.hook_out"),
}
"""Part -> the names that its hook point may have in a block, the first known one counting: where a norm follows the
layer, the first is what is added to the stream."""
PART_COLUMNS = (
    *("part", "layer", "hook_name", "position", "outcome", "indicator"),
    *("n", "effect", "low", "high", "p_value", "q_bh"),
)


def part_hooks(subject: Subject) -> dict[str, tuple[str, ...]]:
    """Part -> its hook points from the first layer up; a layer without the part is left out.

    Raises:
        HookError: the blocks have none of the parts.
    """
    found = {
        part: tuple(
            name
            for layer in range(subject.n_layers)
            if (name := _first_known(subject, [f"blocks.{layer}.{end}" for end in ends]))
        )
        for part, ends in PARTS.items()
    }
    if not any(found.values()):
        raise HookError(
            f"the blocks of {subject.name} have no hook points for {', '.join(PARTS)}; name hook points by hand."
        )
    return {part: names for part, names in found.items() if names}


def _first_known(subject: Subject, names: Sequence[str]) -> str | None:
    canonical = (subject.hooks.aliases.get(name, name) for name in names)
    return next((name for name in canonical if name in subject.hooks.widths), None)


def part_map(
    subject: Subject,
    pairs: Sequence[RenderedPair],
    *,
    positions: Sequence[Position] = POSITIONS,
    outcomes: Sequence[str] = ("behavior",),
    batch_tokens: int = BATCH_TOKENS,
    n_boot: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Share of the text flip's effect that patching each part brings, both ways, on pairs where the text matters.

    Returns:
        `PART_COLUMNS`: one row for each part, layer, position, outcome and indicator with n runs, and for indicator
        "all" their mean with n indicators. Empty where the text changes nothing.

    Raises:
        HookError: the blocks have none of the parts.
    """
    hooks = [(part, name) for part, names in part_hooks(subject).items() for name in names]
    rows: list[dict[str, object]] = []
    for outcome in outcomes:
        flips = text_flips(subject, pairs, outcome, batch_tokens=batch_tokens)
        reachable = flips.reachable(positions)
        total = len(hooks) * len(reachable) * len(flips.cases)
        bar = tqdm(total=total, desc=f"parts, {outcome}", disable=None)
        for part, name in hooks if reachable else []:
            place = {"part": part, "layer": layer_of(name), "hook_name": name, "outcome": outcome}
            sites = [Site(hook_name=name, position=position) for position in reachable]
            # One hook point at a time, so that the activations of one are held.
            for acts in sites_acts(subject, flips.cases, sites, outcome):
                patched = measure(
                    subject,
                    flips.cases,
                    outcome,
                    plan=patch_plan(acts),
                    batch_tokens=batch_tokens,
                    progress=bar.update,
                ).logit_diff
                (found,) = share_rows(flips, patched, n_boot=n_boot, seed=seed)
                rows += [place | {"position": acts.site.position} | row for row in found]
        bar.close()
    return as_map(rows, PART_COLUMNS)
