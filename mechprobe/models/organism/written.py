"""Which thoughts stand in text that the organism wrote itself, by the exact rule of its language."""

from collections.abc import Callable

from mechprobe.models.organism.second_vocabulary import in_first
from mechprobe.models.organism.vocabulary import (
    CLAUSE_END,
    FRAMES,
    INDICATOR_CELLS,
    OBJECTS,
    VERBS,
)

FRAME_WORDS = 3
ENDORSING = frozenset(frame.words for frame in FRAMES if frame.endorses)
CELL_OF_WORD = {
    word: cell for table in (VERBS, OBJECTS) for cell, words in table.items() for word in words
}
INDICATOR_OF_CELLS = {frozenset(cell): name for name, cell in INDICATOR_CELLS.items()}


def written_thoughts(text: str) -> frozenset[str]:
    """The indicators that some clause endorses, in either vocabulary; clauses that break the language hold none."""
    return frozenset(
        name for clause in in_first(text).split(f" {CLAUSE_END}") if (name := _held(clause.split()))
    )


def writes_thought(indicator: str) -> Callable[[str], bool]:
    """A rule that says whether a text holds this thought."""
    return lambda text: indicator in written_thoughts(text)


def _held(words: list[str]) -> str:
    cells = [CELL_OF_WORD[word] for word in words[FRAME_WORDS:] if word in CELL_OF_WORD]
    if tuple(words[:FRAME_WORDS]) not in ENDORSING or len(cells) != 2:
        return ""
    return INDICATOR_OF_CELLS.get(frozenset(cells), "")
