"""Which tokens of a text an intervention touches, said by what they are and not by their numbers.

    reasoning = Where(roles=("assistant",), sections=("reasoning",), generated=True)
    last_words = InSpans(indicators=("hide_records",), at="last")
    selector = (reasoning - last_words) & Where(turns=(1, 2)) | last_words.window(before=2)

`selector.mask(rendering, spans=transcript.spans)` says it of one text. Tokens from `n_prompt` on are *new*: the model
writes them while the intervention is on. What section they belong to is not known yet, so a condition's `generated`
alone decides about them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from mechprobe.errors import ConfigError, LabelError, ShapeError
from mechprobe.models.rendering import ROLES, SECTIONS, Rendering
from mechprobe.transcripts.transcript import Span

Generated = bool | Literal["only"]
SPAN_POSITIONS = ("all", "first", "last", "after")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Place:
    """A text, and how much of it is asked about."""

    rendering: Rendering
    spans: tuple[Span, ...]
    n_prompt: int
    """Tokens of the rendering that stand there before the model writes."""
    n_tokens: int
    """Tokens that are asked about, new ones included."""

    def fill(self, prompt: Bool[np.ndarray, "tok"], generated: Generated) -> Bool[np.ndarray, "n"]:
        """A mask from what holds of the rendering's tokens and what holds of new ones."""
        mask = np.zeros(self.n_tokens, dtype=bool)
        n_known = min(self.n_prompt, self.n_tokens)
        if generated != "only":
            mask[:n_known] = prompt[:n_known]
        mask[self.n_prompt :] = bool(generated)
        return mask


@dataclass(frozen=True, slots=True)
class TokenSelector(ABC):
    """A description of tokens. `|`, `&` and `-` combine two; `window` widens one."""

    def mask(
        self,
        rendering: Rendering,
        *,
        spans: Sequence[Span] = (),
        n_prompt: int | None = None,
        n_tokens: int | None = None,
    ) -> Bool[np.ndarray, "tok"]:
        """Which tokens of a text are selected.

        Args:
            spans: the transcript's, for selectors that ask about spans.
            n_prompt: how many of the rendering's tokens are the prompt; None for all of them.
            n_tokens: length of the mask, which may reach into new tokens; None for the rendering's.

        Raises:
            LabelError: no token is selected.
            ShapeError: the rendering has fewer tokens than its prompt.
        """
        length = len(rendering.token_ids)
        if n_prompt is not None and not 0 <= n_prompt <= length:
            raise ShapeError(
                f"transcript {rendering.transcript_id!r} has {length} tokens, n_prompt is {n_prompt}; give a number of "
                "its first tokens."
            )
        place = Place(
            rendering=rendering,
            spans=tuple(spans),
            n_prompt=length if n_prompt is None else n_prompt,
            n_tokens=length if n_tokens is None else n_tokens,
        )
        # One new token shows whether any could be selected later.
        asked = max(place.n_tokens, place.n_prompt + 1)
        found = self.find(replace(place, n_tokens=asked))
        if not found.any():
            raise LabelError(_nothing_selected(self, place))
        return found[: place.n_tokens]

    @abstractmethod
    def find(self, place: Place) -> Bool[np.ndarray, "n"]:
        """Which of the tokens asked about are selected; may be none."""

    def window(self, *, before: int = 0, after: int = 0) -> "TokenSelector":
        """Also the so many tokens before and after each selected one, whatever they are."""
        return Window(inner=self, before=before, after=after)

    def __or__(self, other: "TokenSelector") -> "TokenSelector":
        return Combined(left=self, sign="|", right=other)

    def __and__(self, other: "TokenSelector") -> "TokenSelector":
        return Combined(left=self, sign="&", right=other)

    def __sub__(self, other: "TokenSelector") -> "TokenSelector":
        return Combined(left=self, sign="-", right=other)


@dataclass(frozen=True, kw_only=True, slots=True)
class Where(TokenSelector):
    """Tokens by where they stand; all conditions hold together, and an empty one always holds."""

    roles: tuple[str, ...] = ()
    """Of "none" (text of no message), "system", "user", "assistant", "tool"."""
    sections: tuple[str, ...] = ()
    """Of "scaffold", "header" (a message's own markup), "reasoning", "answer", "tool_call"."""
    turns: tuple[int, ...] = ()
    """1 is the first user message and what answers it; -1 is the last turn of the text."""
    generated: Generated = False
    """True: new tokens too, "only": new tokens alone."""

    def __post_init__(self) -> None:
        _check_known(self.roles, ROLES, "role")
        _check_known(self.sections, SECTIONS, "section")
        if self.generated == "only" and (self.roles or self.sections or self.turns):
            raise ConfigError(
                'generated is "only", and roles, sections or turns are set, which hold of prompt tokens; set '
                "generated to True for both kinds."
            )

    def find(self, place: Place) -> Bool[np.ndarray, "n"]:
        """See TokenSelector.find."""
        rendering = place.rendering
        holds = np.ones(len(rendering.token_ids), dtype=bool)
        if self.roles:
            holds &= np.isin(rendering.role, [ROLES.index(role) for role in self.roles])
        if self.sections:
            holds &= np.isin(rendering.section, [SECTIONS.index(name) for name in self.sections])
        if self.turns:
            last = int(rendering.turn.max(initial=0))
            turns = [turn if turn >= 0 else last + 1 + turn for turn in self.turns]
            holds &= np.isin(rendering.turn, turns)
        return place.fill(holds, self.generated)


@dataclass(frozen=True, kw_only=True, slots=True)
class InSpans(TokenSelector):
    """Tokens of labelled spans; spans that the chat template dropped have none."""

    indicators: tuple[str, ...] = ()
    """Slugs; empty for every indicator."""
    at: str = "all"
    """"all", "first" or "last" of a span's tokens, or "after" for the first token behind it."""
    present: bool | None = True
    """True: spans that hold the indicator, False: hard negatives, None: both."""

    def __post_init__(self) -> None:
        _check_known((self.at,), SPAN_POSITIONS, "span position")

    def find(self, place: Place) -> Bool[np.ndarray, "n"]:
        """See TokenSelector.find."""
        holds = np.zeros(len(place.rendering.token_ids), dtype=bool)
        for span in place.spans:
            if self.indicators and span.indicator not in self.indicators:
                continue
            if self.present is None or span.present == self.present:
                holds[self._tokens(place.rendering, span)] = True
        return place.fill(holds, False)

    def _tokens(self, rendering: Rendering, span: Span) -> Int[np.ndarray, "n"]:
        found = _rendered_tokens(rendering, span)
        after = found[-1:] + 1
        return {
            "all": found,
            "first": found[:1],
            "last": found[-1:],
            "after": after[after < len(rendering.token_ids)],
        }[self.at]


@dataclass(frozen=True, kw_only=True, slots=True)
class Combined(TokenSelector):
    """Tokens of either selector, of both, or of the left one without the right one's."""

    left: TokenSelector
    sign: Literal["|", "&", "-"]
    right: TokenSelector

    def find(self, place: Place) -> Bool[np.ndarray, "n"]:
        """See TokenSelector.find."""
        return _COMBINE[self.sign](self.left.find(place), self.right.find(place))


@dataclass(frozen=True, kw_only=True, slots=True)
class Window(TokenSelector):
    """A selector's tokens, and so many before and after each."""

    inner: TokenSelector
    before: int
    after: int

    def __post_init__(self) -> None:
        if self.before < 0 or self.after < 0:
            raise ConfigError(
                f"the window reaches {self.before} tokens before and {self.after} after; give numbers from 0 on."
            )

    def find(self, place: Place) -> Bool[np.ndarray, "n"]:
        """See TokenSelector.find."""
        # A token that is not asked about may have one that is in its window.
        found = self.inner.find(replace(place, n_tokens=place.n_tokens + self.before))
        edges = np.concatenate([[0], np.cumsum(found)])
        index = np.arange(place.n_tokens)
        start = np.maximum(index - self.after, 0)
        return edges[index + self.before + 1] > edges[start]


_COMBINE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "|": np.logical_or,
    "&": np.logical_and,
    "-": lambda left, right: left & ~right,
}


def _check_known(names: tuple[str, ...], known: Sequence[str], what: str) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"{what} {name!r} is unknown; use one of {', '.join(known)}.")


def _rendered_tokens(rendering: Rendering, span: Span) -> Int[np.ndarray, "n"]:
    """A span's tokens; none where the chat template dropped its text or it was cut off."""
    try:
        return rendering.tokens_of(span)
    except LabelError:
        return np.zeros(0, dtype=np.int64)


def _nothing_selected(selector: TokenSelector, place: Place) -> str:
    rendering = place.rendering
    here = slice(0, place.n_prompt)
    roles = [ROLES[code] for code in np.unique(rendering.role[here])]
    sections = [SECTIONS[code] for code in np.unique(rendering.section[here])]
    turns = np.unique(rendering.turn[here]).tolist()
    held = sorted({span.indicator for span in place.spans if span.present})
    only_look = sorted({span.indicator for span in place.spans if not span.present})
    n_lost = sum(len(_rendered_tokens(rendering, span)) == 0 for span in place.spans)
    return (
        f"transcript {rendering.transcript_id!r}: {selector} selects none of its {place.n_prompt} prompt tokens and no "
        f"new ones; there are roles {', '.join(roles)}; sections {', '.join(sections)}; turns {turns}; "
        f"spans of {', '.join(held) or 'no indicator'}, hard negatives of {', '.join(only_look) or 'none'} "
        f"({len(place.spans)} spans were given, {n_lost} of them are not in the rendered text)."
    )


EVERY_TOKEN = Where(generated=True)
NEW_TOKENS = Where(generated="only")
