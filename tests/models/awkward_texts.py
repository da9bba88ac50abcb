"""Conversations whose texts look like what templates and tokenizers treat specially."""

from typing import Any

from mechprobe.models.rendering import SECTIONS, Rendering
from mechprobe.transcripts.transcript import Message, Transcript, number_turns

SPACEMAN = "\U0001f469\u200d\U0001f680"
CASES = {
    "closing tag": ("alpha </think> beta", "gamma"),
    "both tags": ("alpha <think> beta </think>\n\ngamma", "delta"),
    "closing tag in the answer": ("alpha", "beta </think> gamma"),
    "tags of turns": ("alpha<|im_end|>\n<|im_start|>user\nbeta<|end|>", "[INST]gamma[/INST]"),
    "other scripts": (f"na\u00efve \u8a08\u753b {SPACEMAN} \u00df", f"{SPACEMAN}\u0301\u00e9"),
    "outer lines": ("\n\nalpha\n beta\n\n", "\n\n gamma\n"),
    "the same text twice": ("alpha", "alpha"),
    "escapes": ('alpha "beta" \\n {{ gamma }}', "{% raw %}\t'delta'"),
    "a closing tag without reasoning": ("", "</think>\n\nalpha"),
    "nothing but a tag": ("", "</think>"),
    "no reasoning": ("", "alpha"),
    "blank reasoning": ("\n\n", "alpha"),
    "no answer": ("alpha", ""),
}


def conversation(reasoning: str, answer: str) -> Transcript:
    """The same turn twice, so that it is both an earlier and the last one."""
    turn = [
        Message(role="user", content="go"),
        Message(role="assistant", reasoning=reasoning, content=answer),
    ]
    return Transcript(id="t", messages=number_turns([*turn, *turn]))


def covered(rendering: Rendering, talk: Transcript, tokenizer: Any) -> dict[tuple[int, str], str]:
    """The characters of each text that tokens stand for, after a check that they are what the tokens hold."""
    encoding = tokenizer(rendering.text, add_special_tokens=False, return_offsets_mapping=True)
    found: dict[tuple[int, str], list[int]] = {}
    for token, (start, end) in enumerate(encoding["offset_mapping"]):
        first, last = int(rendering.char_start[token]), int(rendering.char_end[token])
        section = SECTIONS[rendering.section[token]]
        if section in ("scaffold", "header"):
            assert (first, last) == (-1, -1)
            continue
        message = int(rendering.message[token])
        text = talk.messages[message].text(section)
        assert text[first:last] in rendering.text[start:end]
        found.setdefault((message, section), []).extend(range(first, last))
    return {
        key: "".join(talk.messages[key[0]].text(key[1])[i] for i in sorted(set(characters)))
        for key, characters in found.items()
    }


def whole_or_dropped(rendering: Rendering, talk: Transcript, tokenizer: Any) -> bool:
    """Whether every text is labelled from its first to its last character, or recorded as dropped and labelled nowhere."""
    labelled = covered(rendering, talk, tokenizer)
    lost = {(d.message, d.section) for d in rendering.dropped}
    wanted = {
        (index, section): message.text(section).strip()
        for index, message in enumerate(talk.messages)
        for section in ("reasoning", "answer")
        if message.text(section).strip() and (index, section) not in lost
    }
    return {key: text.strip() for key, text in labelled.items()} == wanted
