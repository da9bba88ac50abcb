"""Everything that a causal run says about free text: rates, damage, effects at equal damage, and prompting.

Two places are steered. At the *site* of the verdict, in text that goes on after the thought: what follows from it,
against random directions under the same operation. And at the tokens *before* a thought is written, at equal damage:
whether it is written at all, and what the model then does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from tqdm import tqdm

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
from mechprobe.causal.writing.strength import EQUAL_DAMAGE_COLUMNS
from mechprobe.causal.writing.writing_hooks import (
    fit_writing,
    spread_pairs,
    steering_strength,
    strongest,
    writing_pushes,
)
from mechprobe.errors import DataError
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
    writing_hooks: Mapping[str, float]
    """Hook point at which the writing of a thought may be steered -> what that does on the select split."""


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
        pairs: those of split "test" are measured; those of "select" choose where writing is steered.
        transcripts: those of split "fit" make the writing directions; those without held indicators are neutral.
        plan: how to see in a text that a thought is written; None where no exact rule is known.
        rewordings: prompts that steering is held against, by name.

    Raises:
        DataError: there is no neutral text, no pair of an indicator, or no answer is found in free text.
    """
    neutral = needed(neutral_text(subject, transcripts, config.n_neutral))
    fit = [transcript for transcript in transcripts if transcript.split == "fit"]
    test, select = ([p for p in pairs if p.split == split] for split in ("test", "select"))
    at_sites = site_runs(subject, test, directions, sites, config)
    hooks = _writing_hooks(subject, select, neutral, fit, list(directions), config, plan)
    hook_name = strongest(hooks)
    found = fit_writing(subject, fit, hook_name, list(directions), config)
    pushes = writing_pushes(subject, neutral, hook_name, found, config, n_random=config.n_random)
    some = spread_pairs(test, config.n_prompts)
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
            test,
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
            equal_damage_table(subject, test, compared, directions, sites, config),
            EQUAL_DAMAGE_COLUMNS,
        ),
        writing_hooks=hooks,
    )


def _writing_hooks(
    subject: Subject,
    select: Sequence[MatchedPair],
    neutral: NeutralText,
    fit: Sequence[Transcript],
    indicators: Sequence[str],
    config: FreeTextConfig,
    plan: PlanRules | None,
) -> dict[str, float]:
    """The configured hook point, or what steering after each block does on the select split."""
    if config.writing_hook:
        return {config.writing_hook: float("nan")}
    if not select:
        raise DataError(
            "no matched pair has split 'select'; where writing is steered is chosen there. Give such pairs, or name "
            "the hook point: free_text.writing_hook."
        )
    return steering_strength(subject, select, neutral, fit, indicators, config, plan=plan)


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


def _table(rows: Sequence[Row], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns))
