"""Where in the model a thought acts: a hook point and a token relative to the thought's span.

A verdict is about a site, and a perfect probe at a dead site proves nothing: on the prototype organism a probe at
the clause separator read the thought with AUROC .96 and no edit there changed anything. So the site is chosen
first, by patching whole activations over hook points and tokens (`site_sweep`), on pairs that no verdict uses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.causal.cases import Case, RenderedSide
from mechprobe.errors import ConfigError, HookError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.subject import Subject

Position = Literal["span_first", "span_last", "span_all", "after_span", "decision"]
POSITIONS: tuple[Position, ...] = get_args(Position)
SIMPLEST_FIRST: tuple[Position, ...] = ("span_last", "span_first", "after_span", "span_all")
"""Positions a verdict may use, one token before many. The decision token is shown in the site map but is no
candidate: at the last layer, patching it swaps the answer itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A hook point at a token of, or next to, the span."""

    hook_name: str
    position: Position

    def __post_init__(self) -> None:
        if self.position not in POSITIONS:
            raise ConfigError(
                f"position is {self.position!r}; it must be one of {', '.join(POSITIONS)}."
            )

    def __str__(self) -> str:
        return f"{self.hook_name} at {self.position}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SiteActs:
    """Clean activations of cases at a site: the case's own, and those of its partner."""

    site: Site
    positions: Int[Tensor, "case site"]
    """Tokens of the site in each case; -1 fills up."""
    own: Float[Tensor, "case site d"]
    partner: Float[Tensor, "case site d"]

    def pick(self, cases: Sequence[int]) -> "SiteActs":
        """Some of the cases."""
        index = torch.tensor(cases, dtype=torch.long)
        return SiteActs(
            site=self.site,
            positions=self.positions[index],
            own=self.own[index],
            partner=self.partner[index],
        )


def tokens_at(position: Position, side: RenderedSide, outcome: str) -> Int[np.ndarray, "site"]:
    """The tokens that a position means in one sequence; empty where there is none."""
    span = side.span_tokens
    read_at = side.reads[outcome].at
    if position == "decision":
        return np.array([read_at])
    tokens = {
        "span_first": span[:1],
        "span_last": span[-1:],
        "span_all": span,
        "after_span": span[-1:] + 1,
    }[position]
    return tokens[tokens <= read_at]


def site_acts(subject: Subject, cases: Sequence[Case], site: Site, outcome: str) -> SiteActs:
    """Capture both sides of the cases at a site.

    Raises:
        HookError: the site has no token before the outcome in any case, or unequal numbers in the two sides.
    """
    return sites_acts(subject, cases, [site], outcome)[0]


def sites_acts(
    subject: Subject, cases: Sequence[Case], sites: Sequence[Site], outcome: str
) -> list[SiteActs]:
    """Capture both sides of the cases at several sites with one pass for each side."""
    hook_names = sorted({site.hook_name for site in sites})
    own = capture_sides(subject, [case.own for case in cases], hook_names, outcome)
    partner = capture_sides(subject, [case.partner for case in cases], hook_names, outcome)
    found: list[SiteActs] = []
    for site in sites:
        here = [tokens_at(site.position, case.own, outcome) for case in cases]
        there = [tokens_at(site.position, case.partner, outcome) for case in cases]
        _check_tokens(site, cases, here, there, outcome)
        found.append(
            SiteActs(
                site=site,
                positions=_padded(here),
                own=_gathered(own[site.hook_name], here),
                partner=_gathered(partner[site.hook_name], there),
            )
        )
    return found


def capture_sides(
    subject: Subject,
    sides: Sequence[RenderedSide],
    hook_names: Sequence[str],
    outcome: str,
    *,
    batch_size: int = 256,
) -> dict[str, list[Float[Tensor, "tok d"]]]:
    """Clean activations of each sequence, up to where the outcome is read."""
    order = sorted(range(len(sides)), key=lambda i: sides[i].reads[outcome].at)
    found: dict[str, list[Tensor]] = {name: [torch.empty(0)] * len(sides) for name in hook_names}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        ids = [sides[i].token_ids[: sides[i].reads[outcome].at + 1].tolist() for i in chosen]
        acts = subject.capture(TokenBatch.of(ids, subject.pad_id), list(hook_names))
        for name in hook_names:
            for row, i in enumerate(chosen):
                found[name][i] = acts[name][row, : len(ids[row])].float().clone()
    return found


def _check_tokens(
    site: Site,
    cases: Sequence[Case],
    here: Sequence[Int[np.ndarray, "..."]],
    there: Sequence[Int[np.ndarray, "..."]],
    outcome: str,
) -> None:
    for case, own, partner in zip(cases, here, there, strict=True):
        if len(own) == 0 or len(own) != len(partner):
            raise HookError(
                f"pair {case.pair.id!r}: {site} is {len(own)} tokens on one side and {len(partner)} on the "
                f"other before outcome {outcome!r} is read; an edit there would not fire. Choose another "
                "position, or drop the pair."
            )


def _padded(tokens: Sequence[Int[np.ndarray, "..."]]) -> Int[Tensor, "case site"]:
    width = max((len(row) for row in tokens), default=0)
    filled = torch.full((len(tokens), width), -1, dtype=torch.long)
    for row, found in enumerate(tokens):
        filled[row, : len(found)] = torch.as_tensor(found)
    return filled


def _gathered(
    acts: Sequence[Float[Tensor, "..."]], tokens: Sequence[Int[np.ndarray, "..."]]
) -> Float[Tensor, "case site d"]:
    width = max((len(row) for row in tokens), default=0)
    filled = torch.zeros(len(acts), width, acts[0].shape[-1])
    for row, found in enumerate(tokens):
        filled[row, : len(found)] = acts[row][torch.as_tensor(found)]
    return filled
