"""Directions at their own sites against random ones, each steered as far as costs the same on neutral text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from mechprobe.causal.cases import natural_cases, render_pairs
from mechprobe.causal.checks.controls import random_directions
from mechprobe.causal.directions import Direction
from mechprobe.causal.effects import measure
from mechprobe.causal.pair_choice import spread_over_sides
from mechprobe.causal.places.sites import Site, site_acts
from mechprobe.causal.verdicts.strata import baseline, natural_gap
from mechprobe.causal.writing.free_config import FreeTextConfig
from mechprobe.causal.writing.free_tables import (
    Row,
)
from mechprobe.causal.writing.neutral import NeutralText
from mechprobe.causal.writing.pushes import Push
from mechprobe.causal.writing.strength import (
    Calibrated,
    calibrate,
    effects_at_equal_damage,
    equal_damage_rows,
)
from mechprobe.models.subject import Subject
from mechprobe.transcripts.pairs import MatchedPair


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Compared:
    """Directions and then random ones at one hook point, with their amounts of equal damage."""

    indicators: tuple[str, ...]
    calibrated: Calibrated

    def of(self, indicator: str) -> Calibrated:
        """An indicator's direction and the random ones."""
        n, index = len(self.indicators), self.indicators.index(indicator)
        return self.calibrated.rows([index, *range(n, len(self.calibrated.vectors))])


def calibrate_sites(
    subject: Subject,
    neutral: NeutralText,
    directions: Mapping[str, Direction],
    sites: Mapping[str, Site],
    config: FreeTextConfig,
) -> dict[str, Compared]:
    """Hook point -> the directions whose sites are there."""
    found: dict[str, Compared] = {}
    for hook_name in dict.fromkeys(sites[name].hook_name for name in directions):
        here = [name for name in directions if sites[name].hook_name == hook_name]
        drawn = random_directions(
            config.n_equal_random, subject.width(hook_name), seed=config.seed + 9
        )
        vectors = torch.cat([torch.stack([directions[name].vector for name in here]), drawn])
        with tqdm(desc=f"equal damage at {hook_name}", unit=" passes", disable=None) as bar:
            calibrated = calibrate(
                subject, neutral, hook_name, vectors, target=config.equal_kl, progress=bar.update
            )
        found[hook_name] = Compared(indicators=tuple(here), calibrated=calibrated)
    return found


def pushes_of(
    compared: Mapping[str, Compared], directions: Mapping[str, Direction]
) -> dict[str, list[Push]]:
    """What adds each thought at equal damage, and as many random pushes as stand beside free text."""
    found: dict[str, list[Push]] = {}
    for hook_name, one in compared.items():
        amounts = one.calibrated.adding.amounts.tolist()
        n = len(one.indicators)
        found[hook_name] = [
            Push(
                indicator=one.indicators[i] if i < n else "",
                direction=directions[one.indicators[i]].name if i < n else "random",
                strength=amount / directions[one.indicators[i]].gap if i < n else float("nan"),
                control="none" if i < n else "random",
                draw=max(i - n, 0),
                vector=vector,
                amount=amount,
            )
            for i, (vector, amount) in enumerate(
                zip(torch.unbind(one.calibrated.vectors), amounts, strict=True)
            )
        ]
    return found


def equal_damage_table(
    subject: Subject,
    pairs: Sequence[MatchedPair],
    compared: Mapping[str, Compared],
    directions: Mapping[str, Direction],
    sites: Mapping[str, Site],
    config: FreeTextConfig,
) -> list[Row]:
    """Every direction at its site against random ones, each at the same KL on neutral text."""
    chosen = {name: _pairs_of(pairs, name, config.n_equal_pairs) for name in directions}
    cases = {name: natural_cases(render_pairs(subject, some)) for name, some in chosen.items()}
    base = {
        name: measure(subject, some, config.outcome).logit_diff[0] for name, some in cases.items()
    }
    gap = natural_gap(np.concatenate(list(base.values())))
    rows: list[Row] = []
    for name, some in cases.items():
        effects = effects_at_equal_damage(
            subject,
            some,
            config.outcome,
            site_acts(subject, some, sites[name], config.outcome),
            baseline(some, base[name], base[name], gap),
            directions[name],
            compared[sites[name].hook_name].of(name),
        )
        rows += equal_damage_rows(effects, seed=config.seed)
    return rows


def _pairs_of(pairs: Sequence[MatchedPair], indicator: str, n: int) -> list[MatchedPair]:
    own = [pair for pair in pairs if pair.indicator == indicator]
    return [own[i] for i in spread_over_sides([pair.natural for pair in own], n)]
