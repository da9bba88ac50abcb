"""How fast a model is harvested, by parts: engine against engine, the whole capture against the bare forward, batching.

All on one random Llama: `capture` with fused attention against TransformerLens' bridge, both stopped at the same block.
"""

import random
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.bench_capture import HOOK, N_LAYERS, WIDTH, WORDS, save_model
from benchmarks.timing import Row, compare
from mechprobe.activations.capture import capture
from mechprobe.activations.selection import TokenSelection
from mechprobe.models.batches import TokenBatch, length_sorted_batches
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Message, Transcript, number_turns

EVERYTHING = TokenSelection(roles=None, sections=None)
BATCH_TOKENS = 2048
CONTEXTS = (128, 512, 2048)
COMMAND = "python -m benchmarks.run harvest"
SHAPE = f"d={WIDTH}, layer 3 of {N_LAYERS}"


def conversations(lengths: Sequence[int]) -> list[Transcript]:
    """One message of so many words each, drawn from the model's vocabulary."""
    draw = random.Random(0)
    return [
        Transcript(
            id=f"t{index}",
            messages=number_turns(
                [Message(role="user", content=" ".join(draw.choices(WORDS, k=length)))]
            ),
        )
        for index, length in enumerate(lengths)
    ]


def measure() -> list[Row]:
    """Rows that agree first, then each comparison in turns."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(folder / "model", n_positions=max(CONTEXTS))
        subject = Subject.load(folder / "model")
        return [
            *(_engines(subject, context) for context in CONTEXTS),
            *(_whole(subject, folder, context) for context in (128, 1024)),
            _batching(subject),
        ]


def _engines(subject: Subject, context: int) -> Row:
    fused = subject.fused
    assert fused is not None, "fused attention disagrees with the bridge"
    (batch,) = _batches(subject, conversations([context] * (BATCH_TOKENS // context)))
    gap = (fused.capture(batch, [HOOK])[HOOK] - subject.capture(batch, [HOOK])[HOOK]).abs().max()
    assert gap < 1e-4, f"the two differ by {gap}"
    return compare(
        f"harvest_engine[{context} tokens a sequence, {SHAPE}]",
        lambda: fused.capture(batch, [HOOK]),
        lambda: subject.capture(batch, [HOOK]),
        amount=BATCH_TOKENS / 1e3,
        unit="k tokens",
        peer_name="TransformerLens' bridge (eager attention), stopped at the layer",
        command=COMMAND,
    )


def _whole(subject: Subject, folder: Path, context: int) -> Row:
    """Rendering, forward, selection, digests and fsync against the bridge's forward alone."""
    transcripts = conversations([context] * (8192 // context))
    batches = _batches(subject, transcripts)

    def ours() -> None:
        shutil.rmtree(folder / "store", ignore_errors=True)
        capture(
            transcripts,
            subject,
            [HOOK],
            folder / "store",
            select=EVERYTHING,
            batch_tokens=BATCH_TOKENS,
        )

    def peer() -> None:
        for batch in batches:
            subject.capture(batch, [HOOK])

    return compare(
        f"harvest_to_disk[{context} tokens a sequence, {SHAPE}]",
        ours,
        peer,
        amount=8.192,
        unit="k tokens",
        peer_name="the bridge's own forward stopped at the layer, nothing stored",
        command=COMMAND,
    )


def _batching(subject: Subject) -> Row:
    fused = subject.fused
    assert fused is not None
    lengths = [int(16 * 1.075**index) for index in range(48)]
    random.Random(1).shuffle(lengths)
    transcripts = conversations(lengths)
    single = [_batches(subject, [one])[0] for one in transcripts]
    batches = _batches(subject, transcripts)

    def run(some: Sequence[TokenBatch]) -> None:
        for batch in some:
            fused.capture(batch, [HOOK])

    return compare(
        f"harvest_batching[48 sequences of 16 to {max(lengths)} tokens, {SHAPE}]",
        lambda: run(batches),
        lambda: run(single),
        amount=sum(lengths) / 1e3,
        unit="k tokens",
        peer_name="one sequence at a time, same engine",
        command=COMMAND,
    )


def _batches(subject: Subject, transcripts: Sequence[Transcript]) -> list[TokenBatch]:
    tokens = [subject.render(one).token_ids.tolist() for one in transcripts]
    groups = length_sorted_batches([len(one) for one in tokens], BATCH_TOKENS)
    return [TokenBatch.of([tokens[i] for i in group], subject.pad_id) for group in groups]
