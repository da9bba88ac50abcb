"""Everything that a causal run says about free text: rates, damage, effects at equal damage, and prompting.

Two places are steered. At the *site* of the verdict, in text that goes on after the thought: what follows from it,
against random directions under the same operation. And at the tokens *before* a thought is written, at equal damage:
whether it is written at all, and what the model then does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from mechprobe.causal.audit_questions import audit_questions
from mechprobe.causal.cases import Case, natural_cases, render_pairs
from mechprobe.causal.controls import random_directions
from mechprobe.causal.damage import DAMAGE_COLUMNS, damage_rows, measure_damage
from mechprobe.causal.directions import Direction
from mechprobe.causal.effects import measure
from mechprobe.causal.free_prompts import FreePrompt, Where, edited_tokens, prompts_of_pairs
from mechprobe.causal.free_runs import FreeGroup, FreeRuns, Writing, run_free, run_free_groups
from mechprobe.causal.free_tables import (
    FREE_COLUMNS,
    GENERATION_COLUMNS,
    PlanRules,
    Row,
    free_rows,
    generation_rows,
)
from mechprobe.causal.neutral import NeutralText, needed, neutral_text
from mechprobe.causal.pair_choice import spread_over_sides
from mechprobe.causal.prompting import Rewording, prompt_effects, prompt_rows
from mechprobe.causal.pushes import Push
from mechprobe.causal.sites import Site, site_acts
from mechprobe.causal.strata import baseline, natural_gap
from mechprobe.causal.strength import (
    EQUAL_DAMAGE_COLUMNS,
    calibrate,
    effects_at_equal_damage,
    equal_damage_rows,
)
from mechprobe.causal.writing_directions import WritingDirection, writing_acts, writing_directions
from mechprobe.errors import ConfigError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.subject import Subject
from mechprobe.transcripts.pairs import MatchedPair
from mechprobe.transcripts.transcript import Transcript

WHERE_OF_POSITION: dict[str, Where] = {
    "span_first": "span_first",
    "span_last": "span_last",
    "span_all": "span_all",
    "after_span": "decision",
    "decision": "decision",
}
"""Where a site's tokens are in a prompt that ends after them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FreeTextConfig:
    """How much free text to write. The defaults take under a minute for 18 indicators of a small model."""

    outcome: str = "behavior"
    """Name of the outcome whose answers are read."""
    audit_outcome: str = "audit"
    """Name of the questions that accuracy is measured on; "" for none."""
    writing_hook: str = ""
    """Hook point at which the writing of a thought is steered; "" for what the last block puts out."""
    target_kl: float = 0.05
    """Damage of steered writing, nats a token on neutral text; at .1 a fifth of a small model's texts break."""
    equal_kl: float = 0.1
    """Damage at which directions are compared at their site, nats a token on neutral text."""
    n_prompts: int = 32
    """Prompts before the reasoning, the same for all indicators."""
    n_site_prompts: int = 16
    """Prompts of each indicator and natural side that end after its thought."""
    n_random: int = 2
    """Random directions beside each direction in free text."""
    n_equal_random: int = 10
    """Random directions in the comparison at equal damage."""
    n_equal_pairs: int = 24
    """Pairs of each indicator in that comparison."""
    n_neutral: int = 8
    """Transcripts without any held indicator."""
    n_questions: int = 36
    """Questions about other indicators."""
    n_writing_transcripts: int = 600
    """Transcripts that writing directions are fitted on."""
    n_samples: int = 1
    """Texts of each prompt."""
    max_new_tokens: int = 64
    """Longest text."""
    n_most_changed: int = 5
    """Texts of each edit that are kept, the most changed ones."""
    seed: int = 0
    """Seed of texts and random directions."""

    def __post_init__(self) -> None:
        for name in ("n_prompts", "n_site_prompts", "n_neutral", "n_equal_pairs", "n_samples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")

    def writing(self, where: Where) -> Writing:
        """The settings of texts that are edited at some tokens."""
        return Writing(
            where=where,
            n_samples=self.n_samples,
            max_new_tokens=self.max_new_tokens,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FreeTextTables:
    """What was measured in free text."""

    rates: pd.DataFrame
    """FREE_COLUMNS: one row an edit."""
    generations: pd.DataFrame
    """GENERATION_COLUMNS: the most changed texts of each edit."""
    damage: pd.DataFrame
    """DAMAGE_COLUMNS: one row a push of the writing."""
    equal_damage: pd.DataFrame
    """EQUAL_DAMAGE_COLUMNS: one row a direction at its site."""


def run_free_text(
    subject: Subject,
    pairs: Sequence[MatchedPair],
    transcripts: Sequence[Transcript],
    directions: Mapping[str, Direction],
    sites: Mapping[str, Site],
    config: FreeTextConfig,
    *,
    plan: PlanRules | None = None,
    rewordings: Mapping[str, Rewording] | None = None,
) -> FreeTextTables:
    """Measure every indicator that has a direction and a site.

    Args:
        pairs: of the split that verdicts rest on.
        transcripts: those of split "fit" make the writing directions; those without held indicators are neutral.
        plan: how to see in a text that a thought is written; None where no exact rule is known.
        rewordings: prompts that steering is held against, by name.

    Raises:
        DataError: there is no neutral text, no pair of an indicator, or no answer is found in free text.
    """
    neutral = needed(neutral_text(subject, transcripts, config.n_neutral))
    fit = [transcript for transcript in transcripts if transcript.split == "fit"]
    at_sites = _site_runs(subject, pairs, directions, sites, config)
    hook_name = config.writing_hook or f"blocks.{subject.n_layers - 1}.hook_resid_post"
    found = writing_directions(
        writing_acts(subject, fit, hook_name, n_transcripts=config.n_writing_transcripts),
        list(directions),
    )
    pushes = _writing_pushes(subject, neutral, hook_name, found, config)
    some = _spread(pairs, config.n_prompts)
    with tqdm(desc="free text", unit=" texts", disable=None) as bar:
        written = run_free(
            subject,
            prompts_of_pairs(subject, some, config.outcome),
            pushes,
            hook_name,
            config.writing("writing"),
            progress=bar.update,
        )
        prompted = prompt_effects(
            subject,
            some,
            config.outcome,
            rewordings or {},
            writing=config.writing("writing"),
            seed=config.seed,
            progress=bar.update,
        )
        damage = measure_damage(
            subject,
            neutral,
            pushes,
            hook_name,
            questions=audit_questions(
                subject, pairs, outcome=config.audit_outcome, n=config.n_questions
            )
            if config.audit_outcome
            else None,
            writing=config.writing("writing"),
            progress=bar.update,
        )
    names = list(directions)
    all_runs = [*at_sites, written, *(one.runs for one in prompted)]
    rates = [row for runs in at_sites for row in free_rows(runs)]
    rates += free_rows(written, plan=plan, indicators=names)
    rates += prompt_rows(prompted, plan=plan, indicators=names)
    return FreeTextTables(
        rates=_table(rates, FREE_COLUMNS),
        generations=_table(
            [
                row
                for runs in all_runs
                for row in generation_rows(subject, runs, n_most_changed=config.n_most_changed)
            ],
            GENERATION_COLUMNS,
        ),
        damage=_table(list(damage_rows(damage)), DAMAGE_COLUMNS),
        equal_damage=_table(
            _equal_damage(subject, neutral, pairs, directions, sites, config), EQUAL_DAMAGE_COLUMNS
        ),
    )


def _site_runs(
    subject: Subject,
    pairs: Sequence[MatchedPair],
    directions: Mapping[str, Direction],
    sites: Mapping[str, Site],
    config: FreeTextConfig,
) -> list[FreeRuns]:
    """Text that goes on after the thought: put in where it is lacking, held back where it stands."""
    found: list[FreeRuns] = []
    with tqdm(desc="free text after the thought", unit=" texts", disable=None) as bar:
        for site in dict.fromkeys(sites[name] for name in directions):
            groups: list[FreeGroup] = []
            for name, direction in directions.items():
                if sites[name] == site:
                    own = [pair for pair in pairs if pair.indicator == name]
                    groups += _site_groups(subject, own, direction, site, config)
            found += run_free_groups(
                subject,
                groups,
                site.hook_name,
                config.writing(WHERE_OF_POSITION[site.position]),
                progress=bar.update,
            )
    return found


def _site_groups(
    subject: Subject,
    pairs: Sequence[MatchedPair],
    direction: Direction,
    site: Site,
    config: FreeTextConfig,
) -> list[FreeGroup]:
    n_after = 1 if site.position == "after_span" else 0
    held, lacking = (
        prompts_of_pairs(
            subject, pairs, config.outcome, start="after_span", sides=[side], n_after=n_after
        )[: config.n_site_prompts]
        for side in ("positive", "negative")
    )
    drawn = random_directions(config.n_random, len(direction.vector), seed=config.seed + 7)
    vectors = torch.cat([direction.vector[None].float(), drawn])
    absent = _mean_coordinates(subject, lacking, site, vectors)
    adding = [
        _push(direction, index, vector, amount=direction.gap, strength=1.0)
        for index, vector in enumerate(torch.unbind(vectors))
    ]
    removing = [
        _push(direction, index, vector, amount=value, operation="ablate")
        for index, (vector, value) in enumerate(
            zip(torch.unbind(vectors), absent.tolist(), strict=True)
        )
    ]
    return [
        FreeGroup(prompts=tuple(lacking), pushes=tuple(adding)),
        FreeGroup(prompts=tuple(held), pushes=tuple(removing)),
    ]


def _mean_coordinates(
    subject: Subject,
    prompts: Sequence[FreePrompt],
    site: Site,
    vectors: Float[Tensor, "direction d"],
) -> Float[Tensor, "direction"]:
    batch = TokenBatch.of([prompt.token_ids for prompt in prompts], subject.pad_id)
    acts = subject.capture(batch, [site.hook_name])[site.hook_name].float()
    first, last = edited_tokens(prompts, WHERE_OF_POSITION[site.position])
    positions = batch.positions
    is_site = (positions >= first[:, None]) & (positions <= last[:, None]) & batch.mask
    return einsum(acts[is_site].cpu(), vectors, "tok d, direction d -> direction tok").mean(1)


def _push(
    direction: Direction,
    index: int,
    vector: Float[Tensor, "d"],
    *,
    amount: float,
    operation: str = "steer",
    strength: float = float("nan"),
) -> Push:
    """The direction itself (index 0) or a random one in its place."""
    return Push(
        indicator=direction.indicator,
        direction=direction.name if index == 0 else "random",
        operation="ablate" if operation == "ablate" else "steer",
        strength=strength,
        control="none" if index == 0 else "random",
        draw=max(index - 1, 0),
        vector=vector,
        amount=amount,
    )


def _writing_pushes(
    subject: Subject,
    neutral: NeutralText,
    hook_name: str,
    found: Sequence[WritingDirection],
    config: FreeTextConfig,
) -> list[Push]:
    """Each writing direction up and down by its amount of equal damage, and random ones by theirs."""
    drawn = random_directions(config.n_random, subject.width(hook_name), seed=config.seed + 8)
    vectors = torch.cat([torch.stack([one.direction.vector for one in found]), drawn])
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


def _equal_damage(
    subject: Subject,
    neutral: NeutralText,
    pairs: Sequence[MatchedPair],
    directions: Mapping[str, Direction],
    sites: Mapping[str, Site],
    config: FreeTextConfig,
) -> list[Row]:
    """Every direction at its site against random ones, each at the same KL on neutral text."""
    chosen = {name: _pairs_of(pairs, name, config.n_equal_pairs) for name in directions}
    cases = {
        name: natural_cases(render_pairs(subject, some)) for name, some in chosen.items() if some
    }
    base = {
        name: measure(subject, some, config.outcome).logit_diff[0] for name, some in cases.items()
    }
    gap = natural_gap(np.concatenate(list(base.values())))
    rows: list[Row] = []
    for hook_name in dict.fromkeys(sites[name].hook_name for name in cases):
        here = [name for name in cases if sites[name].hook_name == hook_name]
        drawn = random_directions(
            config.n_equal_random, subject.width(hook_name), seed=config.seed + 9
        )
        vectors = torch.cat([torch.stack([directions[name].vector for name in here]), drawn])
        with tqdm(desc=f"equal damage at {hook_name}", unit=" passes", disable=None) as bar:
            found = calibrate(
                subject, neutral, hook_name, vectors, target=config.equal_kl, progress=bar.update
            )
        for index, name in enumerate(here):
            some: list[Case] = cases[name]
            effects = effects_at_equal_damage(
                subject,
                some,
                config.outcome,
                site_acts(subject, some, sites[name], config.outcome),
                baseline(some, base[name], base[name], gap),
                directions[name],
                found.rows([index, *range(len(here), len(vectors))]),
            )
            rows += equal_damage_rows(effects, seed=config.seed)
    return rows


def _pairs_of(pairs: Sequence[MatchedPair], indicator: str, n: int) -> list[MatchedPair]:
    own = [pair for pair in pairs if pair.indicator == indicator]
    return [own[i] for i in spread_over_sides([pair.natural for pair in own], n)] if own else []


def _spread(pairs: Sequence[MatchedPair], n: int) -> list[MatchedPair]:
    """`n` pairs at even distances, so that all indicators have their share."""
    places = np.linspace(0, len(pairs) - 1, min(n, len(pairs))).round().astype(int)
    return [pairs[i] for i in dict.fromkeys(places.tolist())]


def _table(rows: Sequence[Row], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns))
