"""How far our captured rows and edited logits are from those of plain Hugging Face.

The reference is the model as its authors' code in transformers runs it: one sequence at a time, no padding, its own
choice of attention kernel, ordinary forward hooks on its own modules. What is compared with it went through the whole
way of a capture: rendered, batched with padding, run, written to a store, read back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechprobe.activations.capture import capture
from mechprobe.activations.selection import TokenSelection
from mechprobe.models.batches import Side, TokenBatch
from mechprobe.models.hooks import Edit
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Message, Transcript, number_turns
from tests.models.families import FAMILIES, Family, save

FIRST, MIDDLE, LAST = "blocks.0.hook_in", "blocks.1.hook_out", "blocks.2.hook_out"
HOOK_NAMES = (FIRST, MIDDLE, LAST)
"""The embedding as the first block reads it, the middle block's output, the last block's before the final norm."""

Rows = dict[str, list[Tensor]]
"""Hook point -> rows of each sequence."""


def talk(name: str, *texts: tuple[str, str, str]) -> Transcript:
    """A conversation of user text, reasoning and answer."""
    messages: list[Message] = []
    for user, reasoning, answer in texts:
        messages += [
            Message(role="user", content=user),
            Message(role="assistant", reasoning=reasoning, content=answer),
        ]
    return Transcript(id=name, messages=number_turns(messages))


TALKS = (
    talk("short", ("why", "", "so")),
    talk("long", ("hide the records now , then", "i plan to hide the records", "the task is done")),
    talk("two turns", ("why now", "plan", "done"), ("why ?", "turn of the tool\nend", "task")),
    talk("middle", ("end of turn", "think", "the system tool is done \u2013 \U0001f600")),
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Studied:
    """A family's tiny model under a subject, and what the plain model computes of the same conversations."""

    family: Family
    folder: Path
    subject: Subject
    plain: Any
    sequences: list[list[int]]
    """What the model reads of TALKS, in order."""
    wanted: Rows
    """Rows of the plain model, for each sequence."""


def study(name: str, folder: Path) -> Studied:
    """Save a family's model, load it as a user would, and run the reference."""
    family = FAMILIES[name]
    save(family, folder)
    subject = Subject.load(folder, chat_template=family.chat_template)
    sequences = [
        window.token_ids.tolist() for item in TALKS for window in subject.render(item).windows
    ]
    plain = family.build()
    return Studied(
        family=family,
        folder=folder,
        subject=subject,
        plain=plain,
        sequences=sequences,
        wanted=reference_rows(plain, family, sequences),
    )


def reference_rows(plain: Any, family: Family, sequences: Sequence[Sequence[int]]) -> Rows:
    """What the plain model computes of each sequence alone, caught by forward hooks on its own blocks."""
    blocks = plain.get_submodule(family.blocks)
    caught: Rows = {name: [] for name in HOOK_NAMES}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, out: Any) -> None:
            caught[name].append((out[0] if isinstance(out, tuple) else out)[0].float())

        return hook

    def keep_input(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        caught[FIRST].append((args[0] if args else kwargs["hidden_states"])[0].float())

    handles = [
        blocks[0].register_forward_pre_hook(keep_input, with_kwargs=True),
        blocks[1].register_forward_hook(keep(MIDDLE)),
        blocks[2].register_forward_hook(keep(LAST)),
    ]
    try:
        with torch.no_grad():
            for sequence in sequences:
                plain(torch.tensor([list(sequence)]))
    finally:
        for handle in handles:
            handle.remove()
    return caught


def stored_rows(
    subject: Subject, folder: Path, *, dtype: str = "float32", batch_tokens: int = 4096
) -> dict[str, Tensor]:
    """Rows of every token of the conversations, through a store of two shards or more."""
    store = capture(
        TALKS,
        subject,
        HOOK_NAMES,
        folder,
        select=TokenSelection(roles=None, sections=None),
        dtype=dtype,
        batch_tokens=batch_tokens,
        shard_tokens=120,
    )
    return {name: store.acts(name) for name in HOOK_NAMES}


def stored_deviation(found: dict[str, Tensor], wanted: Rows) -> float:
    """Largest difference of stored rows from the reference's, both in the order of the conversations."""
    return max(_gap(found[name], torch.cat(wanted[name])) for name in HOOK_NAMES)


def padded_deviation(studied: Studied, side: Side) -> float:
    """Largest difference of the rows of one padded batch of all sequences from the reference's, by every engine."""
    batch = TokenBatch.of(studied.sequences, studied.subject.pad_id, side)
    gaps: list[float] = []
    for engine in engines(studied.subject).values():
        found = engine(batch, HOOK_NAMES)
        gaps += [
            _gap(found[name][row][batch.mask[row]], studied.wanted[name][row])
            for name in HOOK_NAMES
            for row in range(len(studied.sequences))
        ]
    return max(gaps)


def engines(
    subject: Subject,
) -> dict[str, Callable[[TokenBatch, Sequence[str]], dict[str, Tensor]]]:
    """What captures: the bridge, and the plain model's fused attention where it serves these hook points."""
    found = {"bridge": subject.capture}
    if subject.fused and subject.fused.served.issuperset(HOOK_NAMES):
        found["fused"] = subject.fused.capture
    return found


def edited_deviation(studied: Studied) -> float:
    """Largest difference of the logits of a padded batch, clean and steered at the middle block, from plain hooks'.

    Infinite where the steering moves nothing.
    """
    vector = torch.linspace(-1, 1, studied.subject.d_model)
    batch = TokenBatch.of(studied.sequences, studied.subject.pad_id)
    edit = Edit(hook_name=MIDDLE, apply=lambda acts, _where: acts + vector)
    clean, edited = studied.subject.run(batch), studied.subject.run(batch, edits=[edit])
    gaps: list[float] = []
    for row, sequence in enumerate(studied.sequences):
        for found, added in ((clean, 0 * vector), (edited, vector)):
            wanted = _steered_logits(studied, sequence, added)
            gaps.append(_gap(found[row, : len(sequence)], wanted))
    return max(gaps) if _gap(clean, edited) > 1e-2 else float("inf")


def _steered_logits(studied: Studied, sequence: Sequence[int], vector: Tensor) -> Tensor:
    def add(_module: Any, _inputs: Any, out: Any) -> Any:
        return (out[0] + vector, *out[1:]) if isinstance(out, tuple) else out + vector

    handle = studied.plain.get_submodule(studied.family.blocks)[1].register_forward_hook(add)
    try:
        with torch.no_grad():
            return studied.plain(torch.tensor([list(sequence)])).logits[0]
    finally:
        handle.remove()


def bfloat16_errors(studied: Studied, folder: Path) -> Tensor:
    """Error of each bfloat16 row against the plain bfloat16 model, as a share of the row's size, ascending."""
    subject = Subject.load(
        studied.folder, dtype="bfloat16", chat_template=studied.family.chat_template
    )
    plain = studied.family.build().to(torch.bfloat16)
    wanted = reference_rows(plain, studied.family, studied.sequences)
    found = stored_rows(subject, folder, dtype="bfloat16")
    truth = torch.cat([torch.cat(wanted[name]) for name in HOOK_NAMES])
    gaps = torch.cat([found[name] for name in HOOK_NAMES]) - truth
    return (gaps.norm(dim=1) / truth.norm(dim=1)).sort().values


def _gap(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
