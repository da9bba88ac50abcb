"""Where a model starts to write freely, and how its answer is found in what it writes.

The prompt ends before the reasoning, so that the thoughts themselves are written under the edit, or right after a
thought's span, so that the thought stands and only its consequences are written.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mechprobe.causal.cases import OutcomeTokens, ReadPoint, RenderedPair, render_pairs
from mechprobe.causal.writing.pushes import LAST
from mechprobe.causal.writing.resampling import answer_start
from mechprobe.errors import ConfigError, DataError
from mechprobe.models.rendering import SECTIONS, Rendering
from mechprobe.models.subject import Subject
from mechprobe.transcripts.pairs import MatchedPair, Side
from mechprobe.transcripts.transcript import Transcript

Start = Literal["reasoning", "after_span"]
Where = Literal["message", "writing", "decision", "span_first", "span_last", "span_all"]
REASONING, ANSWER = SECTIONS.index("reasoning"), SECTIONS.index("answer")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FreePrompt:
    """Text that a model goes on from."""

    id: str
    """The pair's, or the transcript's."""
    indicator: str
    cluster: str
    """The transcript, which is the unit of resampling."""
    side: Side | None
    """The pair's side that the text comes from."""
    token_ids: tuple[int, ...]
    message_start: int
    """First token of the message that is being written, its header."""
    span: tuple[int, int] | None
    """First and last token of the pair's span, where the prompt holds it."""
    stop: int | None
    """The token after the answer, at which writing ends."""
    read: ReadPoint | None = None
    """How the answer is found; None where none is looked for."""
    answers: OutcomeTokens | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundAnswer:
    """What an exact rule reads in a text."""

    start: int | None = None
    """Where the answer starts, counted in the written tokens; None if there is none."""
    is_bad: bool | None = None
    """None: no answer, or one that is neither bad nor good."""


def prompts_of_pairs(
    subject: Subject,
    pairs: Sequence[MatchedPair],
    outcome: str,
    *,
    start: Start = "reasoning",
    sides: Sequence[Side] = ("positive", "negative"),
    n_after: int = 0,
) -> list[FreePrompt]:
    """Cut the natural side of each pair off, before its reasoning or after its span.

    Args:
        sides: natural sides to keep.
        n_after: tokens behind the span that the prompt holds too.

    Raises:
        DataError: no pair has such an outcome, or its answer cannot be found in free text.
        ConfigError: the start is unknown.
    """
    if start not in get_args(Start):
        raise ConfigError(f"start is {start!r}; it must be one of {', '.join(get_args(Start))}.")
    chosen = [
        pair
        for pair in pairs
        if pair.natural in sides and any(found.name == outcome for found in pair.outcomes)
    ]
    rendered = render_pairs(subject, chosen)
    found = [
        _prompt(subject, pair, one, outcome, start, n_after)
        for pair, one in zip(chosen, rendered, strict=True)
        if start == "reasoning" or outcome in one.regenerable
    ]
    if not found:
        raise DataError(
            f"none of {len(pairs)} pairs has a natural side in {tuple(sides)} and an outcome {outcome!r} that "
            f"follows from text after {start!r}; give pairs whose outcome ends the message that is written."
        )
    return found


def prompts_of_transcripts(
    subject: Subject, transcripts: Iterable[Transcript], n: int
) -> list[FreePrompt]:
    """Cut the first `n` transcripts off before their first assistant message's own text; nothing is read in them.

    Raises:
        DataError: no transcript has an assistant message with text.
    """
    found: list[FreePrompt] = []
    for transcript in transcripts:
        if len(found) == n:
            break
        message = next(
            (i for i, one in enumerate(transcript.messages) if one.role == "assistant"), -1
        )
        rendering = subject.render(transcript)
        text = _own_text(rendering, message)
        if message < 0 or not len(text):
            continue
        in_message = np.flatnonzero(rendering.message == message)
        after = int(text[-1]) + 1
        has_next = after < len(rendering.token_ids)
        found.append(
            FreePrompt(
                id=transcript.id,
                indicator="",
                cluster=transcript.id,
                side=None,
                token_ids=tuple(rendering.token_ids[: int(text[0])].tolist()),
                message_start=min(int(in_message[0]), int(text[0]) - 1),
                span=None,
                stop=int(rendering.token_ids[after]) if has_next else None,
            )
        )
    if not found:
        raise DataError(
            "no transcript has an assistant message with text to write anew; give some to generate from."
        )
    return found


def find_answer(prompt: FreePrompt, written: Sequence[int]) -> FoundAnswer:
    """Read the action by the outcome's tokens: the first token after what leads to an answer."""
    if prompt.read is None or prompt.answers is None:
        return FoundAnswer()
    start = answer_start(written, prompt.read, search_from=0)
    if start is None or start >= len(written):
        return FoundAnswer()
    token = written[start]
    is_bad = token in prompt.answers.bad
    return FoundAnswer(
        start=start, is_bad=is_bad if is_bad or token in prompt.answers.good else None
    )


def edited_tokens(
    prompts: Sequence[FreePrompt], where: Where
) -> tuple[Int[Tensor, "row"], Int[Tensor, "row"]]:
    """First and last edited token of each text.

    Args:
        where: "message", the whole message that is being written; "writing", every token that a new one is chosen
            at; "decision", the last prompt token alone; "span_first", "span_last" and "span_all", those of the span.

    Raises:
        ConfigError: the place is unknown.
        DataError: a prompt does not hold its span.
    """
    if where not in get_args(Where):
        raise ConfigError(f"where is {where!r}; it must be one of {', '.join(get_args(Where))}.")
    ends = [len(prompt.token_ids) - 1 for prompt in prompts]
    if where.startswith("span_"):
        spans = [prompt.span for prompt in prompts if prompt.span is not None]
        if len(spans) < len(prompts):
            raise DataError(
                f"{len(prompts) - len(spans)} of {len(prompts)} prompts end before their span; edit the span in "
                'prompts that start "after_span".'
            )
        firsts, lasts = (torch.tensor([span[end] for span in spans]) for end in (0, 1))
        return (lasts if where == "span_last" else firsts), (
            firsts if where == "span_first" else lasts
        )
    if where == "decision":
        return torch.tensor(ends), torch.tensor(ends)
    starts = [prompt.message_start for prompt in prompts] if where == "message" else ends
    return torch.tensor(starts), torch.full((len(prompts),), LAST)


def _prompt(
    subject: Subject,
    pair: MatchedPair,
    rendered: RenderedPair,
    outcome: str,
    start: Start,
    n_after: int,
) -> FreePrompt:
    natural = pair.positive if pair.natural == "positive" else pair.negative
    rendering = subject.render(natural)
    side = rendered.sides[pair.natural]
    message = next(found.message for found in pair.outcomes if found.name == outcome)
    read = side.reads[outcome]
    has_reasoning = _has(rendering, message, REASONING)
    if has_reasoning and not read.lead:
        raise DataError(
            f"pair {pair.id!r}: nothing stands between the reasoning and the answer of outcome {outcome!r}, so the "
            "answer cannot be found in free text; use a chat template that marks where reasoning ends."
        )
    span = side.span_tokens
    text = _own_text(rendering, message)
    cut = int(span[-1]) + 1 + n_after if start == "after_span" else int(text[0])
    return FreePrompt(
        id=pair.id,
        indicator=pair.indicator,
        cluster=rendered.cluster,
        side=pair.natural,
        token_ids=tuple(rendering.token_ids[:cut].tolist()),
        message_start=min(int(np.flatnonzero(rendering.message == message)[0]), cut - 1),
        span=(int(span[0]), int(span[-1])) if start == "after_span" else None,
        stop=read.stop,
        read=read,
        answers=rendered.outcomes[outcome],
    )


def _own_text(rendering: Rendering, message: int) -> Int[np.ndarray, "n"]:
    is_text = np.isin(rendering.section, [REASONING, ANSWER])
    return np.flatnonzero((rendering.message == message) & is_text)


def _has(rendering: Rendering, message: int, section: int) -> bool:
    return bool(((rendering.message == message) & (rendering.section == section)).any())
