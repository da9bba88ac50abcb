"""Which conversations make which shard: known before the model runs, from the texts alone.

A shard takes whole conversations, in their order, until it has its tokens. So it depends on those before it by
their number of tokens only, and any process can make it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from mechprobe.activations.selection import TokenSelection
from mechprobe.activations.writing import StoreWriter
from mechprobe.errors import ConfigError
from mechprobe.models.rendering import ROLES, SECTIONS, Rendering
from mechprobe.transcripts.transcript import Transcript

HELD_TOKENS = 1 << 17
"""Tokens whose renderings are kept from planning to capture (about 60 bytes each); later ones are rendered twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlan:
    """One shard, in numbers: what travels to whoever makes it."""

    index: int
    first_conversation: int
    n_conversations: int
    n_rows: int
    """Tokens to store."""
    n_tokens: int
    """Tokens that the model reads for them, special tokens of windows included."""

    @property
    def conversations(self) -> range:
        """The numbers of its conversations."""
        return range(self.first_conversation, self.first_conversation + self.n_conversations)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RenderedConversation:
    """A conversation as the model reads it, and which of its tokens are stored."""

    rendering: Rendering
    keep: Bool[np.ndarray, "tok"]

    @property
    def n_rows(self) -> int:
        """Tokens to store."""
        return int(self.keep.sum())

    @property
    def n_tokens(self) -> int:
        """Tokens that the model reads to get them."""
        windows = self.rendering.windows
        return sum(len(w.token_ids) for w in windows if self.keep[w.tokens[w.tokens >= 0]].any())


class Conversations:
    """Renders conversations by number, and keeps the first ones until they are taken."""

    def __init__(
        self,
        transcripts: Sequence[Transcript],
        render: Callable[[Transcript], Rendering],
        select: TokenSelection,
        *,
        hold_tokens: int = 0,
    ) -> None:
        self.transcripts = transcripts
        self._render = render
        self._select = select
        self._room = hold_tokens
        self._held: dict[int, RenderedConversation] = {}

    def look(self, number: int) -> RenderedConversation:
        """Render a conversation, and keep it while there is room."""
        found = self._rendered(number)
        if len(found.keep) <= self._room:
            self._room -= len(found.keep)
            self._held[number] = found
        return found

    def take(self, number: int) -> RenderedConversation:
        """A conversation that was looked at, or not; it is not kept any longer."""
        return self._held.pop(number, None) or self._rendered(number)

    def _rendered(self, number: int) -> RenderedConversation:
        rendering = self._render(self.transcripts[number])
        return RenderedConversation(
            rendering=rendering, keep=selected_tokens(rendering, self._select)
        )


def missing_shards(
    conversations: Conversations, writer: StoreWriter, shard_tokens: int
) -> Iterator[ShardPlan]:
    """The shards that are still to be written; conversations of finished ones are not even rendered."""
    start, index, n_all = 0, 0, len(conversations.transcripts)
    while start < n_all:
        done = writer.finished(index)
        if done and done.facts["first_conversation"] == start:
            start += len(done.facts["transcript_ids"])
        else:
            shard = _next_shard(conversations, start, index, shard_tokens)
            start += shard.n_conversations
            yield shard
        index += 1


def _next_shard(
    conversations: Conversations, start: int, index: int, shard_tokens: int
) -> ShardPlan:
    n_rows = n_tokens = number = 0
    for number in range(start, len(conversations.transcripts)):
        found = conversations.look(number)
        n_rows, n_tokens = n_rows + found.n_rows, n_tokens + found.n_tokens
        if n_rows >= shard_tokens:
            break
    return ShardPlan(
        index=index,
        first_conversation=start,
        n_conversations=number + 1 - start,
        n_rows=n_rows,
        n_tokens=n_tokens,
    )


def selected_tokens(rendering: Rendering, select: TokenSelection) -> Bool[np.ndarray, "tok"]:
    """Which tokens of a conversation a selection keeps.

    Raises:
        ConfigError: it names a role or section that does not exist.
    """
    kept = np.ones(len(rendering.token_ids), dtype=bool)
    for codes, names, wanted in (
        (rendering.role, ROLES, select.roles),
        (rendering.section, SECTIONS, select.sections),
    ):
        if wanted is not None:
            if unknown := sorted(set(wanted) - set(names)):
                raise ConfigError(f"{unknown[0]!r} cannot be selected; choose among {list(names)}.")
            kept &= np.isin(codes, [names.index(name) for name in wanted])
    return kept
