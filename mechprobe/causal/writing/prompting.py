"""The baseline that steering must be held against: saying it in the prompt.

An instruction costs nothing and is often stronger than steering (AxBench, arXiv 2501.17148, section 5), so a steering
effect is printed beside what a plain rewording of the prompt does to the same outcome on the same transcripts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from mechprobe.causal.cases import natural_cases, render_pairs
from mechprobe.causal.effects import measure
from mechprobe.causal.verdicts.statistics import Interval, cluster_bootstrap
from mechprobe.causal.verdicts.strata import natural_gap
from mechprobe.causal.writing.free_prompts import prompts_of_pairs
from mechprobe.causal.writing.free_runs import (
    FreeGroup,
    FreeRuns,
    Writing,
    check_readable,
    run_free_groups,
)
from mechprobe.causal.writing.free_tables import PlanRules, free_rows
from mechprobe.causal.writing.pushes import EditName
from mechprobe.errors import ConfigError, DataError
from mechprobe.models.subject import Subject
from mechprobe.transcripts.pairs import MatchedPair
from mechprobe.transcripts.transcript import Transcript

Rewording = Callable[[Transcript], Transcript]
"""The same transcript under another prompt; what the assistant wrote stays."""
PROMPT_ROLES = ("system", "user")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PromptEffect:
    """What a rewording of the prompt does."""

    name: str
    effects: Float[np.ndarray, "case"]
    """Change of the outcome with the written reasoning held fixed, in natural gaps."""
    effect: Interval
    mass: float
    """Mean probability on the outcome's answers under the rewording."""
    runs: FreeRuns
    """Free text after the reworded prompt beside that after the prompt as it was."""


def with_instruction(text: str) -> Rewording:
    """Add a sentence to the end of the system message, or before the first user message where there is none.

    Raises:
        ConfigError: the text is empty.
    """
    if not text.strip():
        raise ConfigError("the instruction is empty; write what the model is to do.")

    def reword(transcript: Transcript) -> Transcript:
        roles = [message.role for message in transcript.messages]
        if "system" in roles:
            place = roles.index("system")
            return _with_content(
                transcript, place, f"{transcript.messages[place].content}\n{text}".strip()
            )
        if "user" not in roles:
            raise DataError(
                f"transcript {transcript.id!r} has no system and no user message to write an instruction in."
            )
        place = roles.index("user")
        return _with_content(
            transcript, place, f"{text}\n{transcript.messages[place].content}".strip()
        )

    return reword


def with_words(words: Mapping[str, str]) -> Rewording:
    """Replace words of the system and user messages before the assistant's first, such as "pressure high".

    A transcript that has none of them stays as it is.

    Raises:
        ConfigError: no word is given.
    """
    if not words:
        raise ConfigError("no word is given to replace; map old ones to new ones.")

    def reword(transcript: Transcript) -> Transcript:
        for place, message in enumerate(transcript.messages):
            if message.role not in PROMPT_ROLES:
                break
            content = message.content
            for old, new in words.items():
                content = content.replace(old, new)
            transcript = _with_content(transcript, place, content)
        return transcript

    return reword


def reworded(pair: MatchedPair, rewording: Rewording) -> MatchedPair:
    """The pair with both sides under another prompt."""
    return replace(pair, positive=rewording(pair.positive), negative=rewording(pair.negative))


def prompt_effects(
    subject: Subject,
    pairs: Sequence[MatchedPair],
    outcome: str,
    rewordings: Mapping[str, Rewording],
    *,
    indicator: str = "",
    scale: float | None = None,
    writing: Writing | None = None,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> list[PromptEffect]:
    """Measure each rewording on the natural sides of pairs: teacher-forced, and in free text.

    Args:
        rewordings: by the name that tables know them by.
        indicator: what the pairs are of, if of one.
        scale: the outcome's natural gap; None measures it on these pairs.
        progress: told the number of texts after each batch.

    Raises:
        DataError: no rewording changes a prompt, the outcome is constant, or no answer is found in free text.
    """
    chosen = [pair for pair in pairs if any(one.name == outcome for one in pair.outcomes)]
    base_cases = natural_cases(render_pairs(subject, chosen))
    base = measure(subject, base_cases, outcome).logit_diff[0] if base_cases else np.zeros(0)
    gap = natural_gap(base) if scale is None and len(base) else float(scale or np.nan)
    if not np.isfinite(gap) or gap == 0:
        raise DataError(
            f"outcome {outcome!r} has no natural gap over {len(base)} runs, so effects have no scale; give pairs "
            "whose natural sides end both ways."
        )
    changed = {name: _changed(chosen, name, reword) for name, reword in rewordings.items()}
    how = writing or Writing()
    groups = [
        FreeGroup(prompts=tuple(prompts_of_pairs(subject, some, outcome)), pushes=())
        for some in (chosen, *changed.values())
    ]
    clean, *own = run_free_groups(subject, groups, "", how, needs_answers=False, progress=progress)
    check_readable(clean, how)
    clusters = [case.pair.cluster for case in base_cases]
    found: list[PromptEffect] = []
    for (name, some), runs in zip(changed.items(), own, strict=True):
        read = measure(subject, natural_cases(render_pairs(subject, some)), outcome)
        effects = (read.logit_diff[0] - base) / gap
        found.append(
            PromptEffect(
                name=name,
                effects=effects,
                effect=cluster_bootstrap(effects, clusters, seed=seed),
                mass=float(read.mass.mean()),
                runs=_beside(clean, runs, name, indicator),
            )
        )
    return found


def prompt_rows(
    found: Sequence[PromptEffect], *, plan: PlanRules | None = None, indicators: Sequence[str] = ()
) -> Iterator[dict[str, object]]:
    """Rows with the columns of free runs (FREE_COLUMNS), so that prompting stands beside steering."""
    for one in found:
        for row in free_rows(one.runs, plan=plan, indicators=indicators):
            yield row | {"effect": one.effect.value, "mass": one.mass}


def _changed(pairs: Sequence[MatchedPair], name: str, rewording: Rewording) -> list[MatchedPair]:
    found = [reworded(pair, rewording) for pair in pairs]
    same = sum(
        a.positive.messages == b.positive.messages for a, b in zip(found, pairs, strict=True)
    )
    if same == len(pairs):
        raise DataError(
            f"rewording {name!r} leaves all {same} prompts as they are; name words that they have."
        )
    return found


def _beside(clean: FreeRuns, own: FreeRuns, name: str, indicator: str) -> FreeRuns:
    label = EditName(
        indicator=indicator,
        direction=name,
        operation="prompt",
        strength=float("nan"),
        amount=float("nan"),
        control="none",
        draw=0,
        sign=-1,
    )
    return replace(clean, where="prompt", names=(label,), edited=(own.unedited,))


def _with_content(transcript: Transcript, place: int, content: str) -> Transcript:
    messages = list(transcript.messages)
    messages[place] = replace(messages[place], content=content)
    return replace(transcript, messages=tuple(messages))
