r"""The one sentence splitter: scores, labels and reports cut text at the same places.

The cut is the paper's evaluation regex `(?<=[.!?])\s+|\n+` (arXiv 2606.24251, authors' code); their `min_words`
discards sentences of fewer than five words. Their code then falls back to the whole turn where nothing is
left; here too: a text with words always has a sentence.
"""

import re
from collections.abc import Iterator

_GAP = re.compile(r"(?<=[.!?])\s+|\n+")


def split_sentences(text: str, *, min_words: int = 0) -> list[tuple[int, int]]:
    """First character and one past the last of each sentence, without the space around it.

    Args:
        min_words: leave out sentences of fewer words (5 in the paper); where that leaves nothing, the
            whole text from its first to its last visible character is the one sentence.
    """
    sentences = list(_sentences(text))
    kept = [(start, end) for start, end in sentences if len(text[start:end].split()) >= min_words]
    if kept or not sentences:
        return kept
    return [(sentences[0][0], sentences[-1][1])]


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for gap in [*_GAP.finditer(text), None]:
        end = gap.start() if gap else len(text)
        visible = text[start:end].strip()
        if visible:
            first = text.index(visible, start)
            yield first, first + len(visible)
        start = gap.end() if gap else end
