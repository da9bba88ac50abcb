"""What the falsifiers need to know of a language: its words, paraphrases, a neutral word, how to move a phrase."""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mechprobe.errors import DataError

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wording:
    """A language, as far as the falsifiers alter texts of it."""

    paraphrases: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """A word or phrase in lower case -> what may stand in its place without a change of meaning."""
    mask: str = "..."
    """What stands for a masked word; empty: the word is dropped."""
    phrase: Callable[[str], str] = str.strip
    """The part of a span's text that is moved into another context."""
    graft: Callable[[str, str], str] = lambda _host, phrase: phrase
    """A benign passage and a phrase -> the passage that holds the phrase instead."""
    holds: Callable[[str, str], bool] | None = None
    """Whether an altered passage really holds an indicator, where a rule can tell; such texts are left out."""


def find_words(text: str) -> list[tuple[int, int]]:
    """First character and one past the last of each word."""
    return [match.span() for match in _WORD.finditer(text)]


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return [match.group().lower() for match in _WORD.finditer(text)]


def replace_words(text: str, new: Mapping[int, str]) -> str:
    """The text with some of its words replaced, by number; an empty replacement drops the word and a space."""
    parts: list[str] = []
    done = 0
    for number, (start, end) in enumerate(find_words(text)):
        if number not in new:
            continue
        parts += [text[done:start], new[number]]
        drops_space = not new[number] and text[end : end + 1].isspace()
        done = end + int(drops_space)
    return "".join([*parts, text[done:]])


def paraphrase(text: str, wording: Wording, rng: np.random.Generator) -> str:
    """The text with everything replaced that has a paraphrase, a longer phrase before a part of it."""

    def other(name: str) -> str:
        options = wording.paraphrases[name]
        return options[int(rng.integers(len(options)))]

    return replace_phrases(text, list(wording.paraphrases), other)


def replace_phrases(text: str, names: Sequence[str], other: Callable[[str], str]) -> str:
    """The text with each of the named words and phrases replaced, all at once, so that none is replaced twice."""
    if not names:
        return text
    longest_first = sorted(names, key=len, reverse=True)
    pattern = r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b"

    def put(match: re.Match[str]) -> str:
        new = other(match.group().lower())
        return new.capitalize() if match.group()[:1].isupper() else new

    return re.sub(pattern, put, text, flags=re.IGNORECASE)


def synonym_groups(groups: list[tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Each word of each group -> the other words of its group."""
    return {
        word: tuple(other for other in group if other != word)
        for group in groups
        for word in group
        if len(group) > 1
    }


def read_paraphrases(path: Path) -> dict[str, tuple[str, ...]]:
    """Read pairs of a word or phrase and its paraphrase, a tab between them, a pair a line.

    Raises:
        DataError: the file is missing, holds no pair, or a line is not a pair.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; give a file with a paraphrase pair a line.")
    found: dict[str, tuple[str, ...]] = {}
    with path.open(encoding="utf-8", newline="") as lines:
        for number, line in enumerate(csv.reader(lines, delimiter="\t"), start=1):
            if not line or line[0].startswith("#"):
                continue
            if len(line) != 2 or not all(part.strip() for part in line):
                raise DataError(
                    f"{path}, line {number}: {len(line)} columns; write the original, a tab, its paraphrase."
                )
            name, other = line[0].strip().lower(), line[1].strip()
            found[name] = (*found.get(name, ()), other)
    if not found:
        raise DataError(f"{path} holds no paraphrase; write the original, a tab, its paraphrase.")
    return found
