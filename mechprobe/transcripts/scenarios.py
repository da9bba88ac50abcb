"""Which transcripts tell the same story, so that no story stands on both sides of a split.

Numbers do not say it. In the published Bloom folders (arXiv 2606.24251) an even variation is mostly the odd one
before it with a little noise, and the benign twin of a misaligned variation has its number in four behaviours
but another one in strategic deception. So the prompts are compared: twins by number need little likeness,
others much. On the 260 development transcripts this finds the 93 scenarios exactly; unlike scenarios of one
behaviour are at most .26 alike, false twins at most .09, true ones at least .10.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse

from mechprobe.transcripts.transcript import Transcript

ALIKE = 0.3
"""Cosine of the prompts' words above which two transcripts share a scenario."""
TWINS_ALIKE = 0.1
"""The same for two transcripts that already carry the same group name."""
_WORD = re.compile(r"[^\W_]+")
_ROWS_AT_ONCE = 1024


def group_by_scenario(transcripts: Sequence[Transcript]) -> list[Transcript]:
    """Give transcripts of one behaviour whose prompts are alike one group, named by the least of their ids.

    The groups that they come with are taken as hints (transcripts of one group may be twins), not as given.
    """
    words = weighed_words([prompt_text(transcript) for transcript in transcripts])
    parents = list(range(len(transcripts)))
    for first, second, likeness in _like_pairs(words, [item.behavior for item in transcripts]):
        hint = transcripts[first].group
        are_twins = bool(hint) and hint == transcripts[second].group
        if likeness >= (TWINS_ALIKE if are_twins else ALIKE):
            parents[_root(parents, first)] = _root(parents, second)
    roots = [_root(parents, index) for index in range(len(transcripts))]
    names: dict[int, str] = {}
    for root, transcript in zip(roots, transcripts, strict=True):
        names[root] = min(names.get(root, transcript.id), transcript.id)
    return [
        replace(transcript, group=names[root])
        for root, transcript in zip(roots, transcripts, strict=True)
    ]


def prompt_text(transcript: Transcript) -> str:
    """What the scenario's author wrote: the system messages and the first user message."""
    return "\n".join(
        message.content
        for message in transcript.messages
        if message.role == "system" or (message.role == "user" and message.turn == 1)
    )


def weighed_words(texts: Sequence[str]) -> sparse.csr_array:
    """One row of unit length for each text: its words, weighed by how few of the texts have them."""
    words = [sorted(set(_WORD.findall(text.lower()))) for text in texts]
    counts = Counter(word for of_text in words for word in of_text)
    columns = {word: column for column, word in enumerate(counts)}
    weight = {word: math.log((len(texts) + 1) / count) for word, count in counts.items()}
    rows = sparse.csr_array(
        (
            [weight[word] for of_text in words for word in of_text],
            [columns[word] for of_text in words for word in of_text],
            np.cumsum([0, *(len(of_text) for of_text in words)]),
        ),
        shape=(len(texts), len(columns)),
    )
    lengths = np.sqrt(rows.power(2).sum(axis=1))
    return sparse.csr_array(rows.multiply(1 / np.where(lengths > 0, lengths, 1)[:, None]))


def _like_pairs(
    words: sparse.csr_array, behaviors: Sequence[str]
) -> Iterator[tuple[int, int, float]]:
    """Pairs of one behaviour that are at least TWINS_ALIKE, with their likeness."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, behavior in enumerate(behaviors):
        members[behavior].append(index)
    for indices in members.values():
        of_behavior = words[indices]
        for start in range(0, len(indices), _ROWS_AT_ONCE):
            block = (of_behavior[start : start + _ROWS_AT_ONCE] @ of_behavior.T).tocoo()
            for row, column, likeness in zip(block.row, block.col, block.data, strict=True):
                if start + row < column and likeness >= TWINS_ALIKE:
                    yield indices[start + row], indices[column], float(likeness)


def _root(parents: list[int], index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index
