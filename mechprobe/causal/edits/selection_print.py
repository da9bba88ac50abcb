"""A text with its selected tokens marked, to look at before an intervention is believed."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from mechprobe.causal.edits.selection import TokenSelector
from mechprobe.errors import ConfigError
from mechprobe.models.rendering import Rendering
from mechprobe.transcripts.transcript import Span

_MARK, _DIM, _RESET = "\x1b[30;43m", "\x1b[2m", "\x1b[0m"
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters by which a transcript could write to the terminal what it likes; line feeds and tabs stay."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stretch:
    text: str
    is_selected: bool


def show_selection(
    rendering: Rendering,
    selector: TokenSelector,
    tokenizer: Any,
    *,
    spans: Sequence[Span] = (),
    n_prompt: int | None = None,
    colour: bool = True,
) -> str:
    """The rendered text for a terminal, with the selected tokens on yellow, or in ⟦brackets⟧ without colour.

    Args:
        tokenizer: the one that rendered (`subject.tokenizer`).

    Raises:
        LabelError: no token is selected.
        ConfigError: the tokenizer is another one.
    """
    mask, with_new = _select(rendering, selector, spans, n_prompt)
    start, stop = (_MARK, _RESET) if colour else ("⟦", "⟧")
    parts = [f"{_DIM}{_title(mask, with_new)}{_RESET}" if colour else _title(mask, with_new)]
    parts.append("\n")
    for stretch in _stretches(rendering, tokenizer, mask):
        text = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", stretch.text)
        if stretch.is_selected and colour:
            # A background that runs over a line's end paints the rest of the line.
            text = f"{start}{text}{stop}".replace("\n", f"{stop}\n{start}")
        elif stretch.is_selected:
            text = f"{start}{text}{stop}"
        parts.append(text)
    return "".join(parts)


def selection_html(
    rendering: Rendering,
    selector: TokenSelector,
    tokenizer: Any,
    *,
    spans: Sequence[Span] = (),
    n_prompt: int | None = None,
) -> str:
    """The same as an HTML fragment, for notebooks and reports.

    Raises:
        LabelError, ConfigError: see `show_selection`.
    """
    mask, with_new = _select(rendering, selector, spans, n_prompt)
    parts: list[str] = []
    for stretch in _stretches(rendering, tokenizer, mask):
        text = html.escape(_CONTROLS.sub("\N{REPLACEMENT CHARACTER}", stretch.text))
        parts.append(f"<mark>{text}</mark>" if stretch.is_selected else text)
    body = "".join(parts)
    return (
        f'<figure class="selection"><figcaption>{html.escape(_title(mask, with_new))}</figcaption>'
        f'<pre style="white-space: pre-wrap">{body}</pre></figure>'
    )


def _select(
    rendering: Rendering, selector: TokenSelector, spans: Sequence[Span], n_prompt: int | None
) -> tuple[Bool[np.ndarray, "tok"], bool]:
    """The mask over the rendering, and whether the first new token is selected as well."""
    end = len(rendering.token_ids) if n_prompt is None else n_prompt
    asked = max(len(rendering.token_ids), end + 1)
    mask = selector.mask(rendering, spans=spans, n_prompt=n_prompt, n_tokens=asked)
    return mask[: len(rendering.token_ids)], bool(mask[end])


def _title(mask: Bool[np.ndarray, "tok"], with_new: bool) -> str:
    new = ", and the tokens that the model writes next" if with_new else ""
    return f"{int(mask.sum())} of {len(mask)} tokens selected{new}"


def _stretches(
    rendering: Rendering, tokenizer: Any, mask: Bool[np.ndarray, "tok"]
) -> list[_Stretch]:
    """The text cut where the selection begins and ends; what stands between two tokens goes with both or none."""
    encoding = tokenizer(
        rendering.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    n_tokens = len(rendering.token_ids)
    if encoding["input_ids"][:n_tokens] != rendering.token_ids.tolist():
        raise ConfigError(
            f"transcript {rendering.transcript_id!r}: this tokenizer cuts the text into other tokens than it was "
            "rendered with; give the subject's own."
        )
    stretches: list[_Stretch] = []
    at = 0
    for (start, end), is_selected in zip(encoding["offset_mapping"], mask.tolist(), strict=False):
        joined = is_selected and bool(stretches) and stretches[-1].is_selected
        if start > at and not joined:
            stretches.append(_Stretch(text=rendering.text[at:start], is_selected=False))
        text = rendering.text[at if joined else max(start, at) : max(end, at)]
        if text:
            stretches.append(_Stretch(text=text, is_selected=is_selected))
        at = max(at, end)
    return _merged(stretches)


def _merged(stretches: Sequence[_Stretch]) -> list[_Stretch]:
    merged: list[_Stretch] = []
    for stretch in stretches:
        if merged and merged[-1].is_selected == stretch.is_selected:
            stretch = _Stretch(
                text=merged.pop().text + stretch.text, is_selected=stretch.is_selected
            )
        merged.append(stretch)
    return merged
