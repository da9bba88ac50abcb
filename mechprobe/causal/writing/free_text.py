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
from tqdm import tqdm

from mechprobe.causal.checks.controls import random_directions
from mechprobe.causal.directions import Direction
from mechprobe.causal.places.sites import Site
from mechprobe.causal.writing.audit_questions import audit_questions
from mechprobe.causal.writing.damage import DAMAGE_COLUMNS, Damage, damage_rows, measure_damage
from mechprobe.causal.writing.equal_damage import calibrate_sites, equal_damage_table, pushes_of
from mechprobe.causal.writing.free_config import FreeTextConfig
from mechprobe.causal.writing.free_prompts import prompts_of_pairs
from mechprobe.causal.writing.free_runs import run_free
from mechprobe.causal.writing.free_tables import (
    FREE_COLUMNS,
    GENERATION_COLUMNS,
    PlanRules,
    Row,
    free_rows,
    generation_rows,
)
from mechprobe.causal.writing.neutral import NeutralText, needed, neutral_text
from mechprobe.causal.writing.prompting import Rewording, prompt_effects, prompt_rows
from mechprobe.causal.writing.pushes import Push
from mechprobe.causal.writing.site_texts import site_runs
from mechprobe.causal.writing.strength import (
    EQUAL_DAMAGE_COLUMNS,
    calibrate,
)
from mechprobe.causal.writing.writing_directions import (
    WritingDirection,
    writing_acts,
    writing_directions,
)
from mechprobe.models.subject import Subject
from mechprobe.transcripts.pairs import MatchedPair
from mechprobe.transcripts.transcript import Transcript


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
    at_sites = site_runs(subject, pairs, directions, sites, config)
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
        compared = calibrate_sites(subject, neutral, directions, sites, config)
        damage = _damage(
            subject,
            neutral,
            pairs,
            _together({hook_name: pushes}, pushes_of(compared, directions)),
            config,
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
            equal_damage_table(subject, pairs, compared, directions, sites, config),
            EQUAL_DAMAGE_COLUMNS,
        ),
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


def _together(*tables: Mapping[str, Sequence[Push]]) -> dict[str, list[Push]]:
    """Pushes at each hook point, of all tables."""
    found: dict[str, list[Push]] = {}
    for table in tables:
        for hook_name, some in table.items():
            found.setdefault(hook_name, []).extend(some)
    return found


def _damage(
    subject: Subject,
    neutral: NeutralText,
    pairs: Sequence[MatchedPair],
    pushes: Mapping[str, Sequence[Push]],
    config: FreeTextConfig,
) -> list[Damage]:
    questions = (
        audit_questions(subject, pairs, outcome=config.audit_outcome, n=config.n_questions)
        if config.audit_outcome
        else None
    )
    with tqdm(desc="damage", unit=" texts", disable=None) as bar:
        return [
            one
            for hook_name, some in pushes.items()
            for one in measure_damage(
                subject,
                neutral,
                some,
                hook_name,
                questions=questions,
                writing=config.writing("writing"),
                progress=bar.update,
            )
        ]


def _spread(pairs: Sequence[MatchedPair], n: int) -> list[MatchedPair]:
    """`n` pairs at even distances, so that all indicators have their share."""
    places = np.linspace(0, len(pairs) - 1, min(n, len(pairs))).round().astype(int)
    return [pairs[i] for i in dict.fromkeys(places.tolist())]


def _table(rows: Sequence[Row], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns))
