"""A rendering written out so that a reader can check it: one line for each stretch of tokens of one meaning."""

from itertools import groupby
from typing import Any

from mechprobe.models.rendering import ROLES, SECTIONS, Rendering
from mechprobe.transcripts.transcript import Transcript

_LETTERS = {"scaffold": "s", "header": "h", "reasoning": "r", "answer": "a", "tool_call": "t"}


def segments(rendering: Rendering, transcript: Transcript, tokenizer: Any) -> str:
    """Lines such as "2r plan one": number of the message, letter of the section, the tokens' text.

    Line breaks are written as ⏎; scaffold that belongs to no message has the number "-". Roles and turns are compared
    with the transcript's here, since they follow from the message.
    """
    lines: list[str] = []
    keys = list(zip(rendering.message.tolist(), rendering.section.tolist(), strict=True))
    for (message, section), group in groupby(range(len(keys)), key=keys.__getitem__):
        tokens = list(group)
        wanted = transcript.messages[message] if message >= 0 else None
        assert {ROLES[code] for code in rendering.role[tokens]} == {
            wanted.role if wanted else "none"
        }
        assert set(rendering.turn[tokens].tolist()) == {wanted.turn if wanted else 0}
        text = tokenizer.decode(rendering.token_ids[tokens]).replace("\n", "⏎")
        number = "-" if message < 0 else str(message)
        lines.append(f"{number}{_LETTERS[SECTIONS[section]]} {text}")
    return "\n".join(lines)


def dropped(rendering: Rendering) -> str:
    """What was not rendered, such as "2r 4r"."""
    return " ".join(f"{d.message}{_LETTERS[d.section]}" for d in rendering.dropped)
