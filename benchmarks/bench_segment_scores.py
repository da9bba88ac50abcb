"""Token -> sentence -> turn for 36 probes over a million tokens, against a loop over detectors and sentences.

The sentence boundaries are given to both sides; finding them is the second row, measured apart.
"""

import re

import numpy as np
import pandas as pd

from benchmarks.timing import Row, compare
from mechprobe.probes.scoring.aggregation import Pooling, plan_pooling, pool
from mechprobe.transcripts.transcript import Message, Transcript, number_turns

N_TOKENS, N_PROBES = 1_000_000, 36
N_TALKS = 150


def measure() -> list[Row]:
    """18 probes at two layers; the numbers of both sides agree to 1e-6."""
    return [_pooling(), _splitting()]


def _pooling() -> Row:
    """Sentences of 5 to 40 tokens, turns of 1 to 20 sentences, three turns a transcript."""
    rng = np.random.default_rng(0)
    pooling = _made_pooling(rng)
    scores = rng.normal(size=(len(pooling.rows), N_PROBES)).astype(np.float32)
    sentence_ends = np.cumsum(pooling.sentence_lengths)
    turn_ends = np.cumsum(pooling.turn_lengths)

    def loops() -> np.ndarray:
        turns = np.zeros((len(turn_ends), N_PROBES), dtype=np.float32)
        for probe in range(N_PROBES):
            column = scores[:, probe]
            means = [
                column[end - length : end].mean()
                for end, length in zip(sentence_ends, pooling.sentence_lengths, strict=True)
            ]
            for turn, (end, length) in enumerate(zip(turn_ends, pooling.turn_lengths, strict=True)):
                turns[turn, probe] = max(means[end - length : end])
        return turns

    gap = np.abs(pool(scores, pooling).turn - loops()).max()
    assert gap < 1e-6, f"the two poolings differ by {gap}"
    return compare(
        f"segment_scores[{len(pooling.rows)} tokens x {N_PROBES}]",
        lambda: pool(scores, pooling),
        loops,
        amount=len(pooling.rows) / 1e6,
        unit="M tokens",
        peer_name="numpy slices in a loop",
        command="python -m benchmarks.run segment_scores",
        rounds=3,
    )


def _made_pooling(rng: np.random.Generator) -> Pooling:
    """A pooling of just over a million tokens."""
    turn_lengths = rng.integers(1, 21, size=3 * 1410)
    sentence_lengths = rng.integers(5, 41, size=turn_lengths.sum())
    n_turns = len(turn_lengths)
    assert sentence_lengths.sum() > N_TOKENS
    return Pooling(
        rows=np.arange(sentence_lengths.sum()),
        sentence_lengths=sentence_lengths,
        turn_lengths=turn_lengths,
        transcript_lengths=np.full(n_turns // 3, 3),
        turns=pd.DataFrame(
            {"conversation": np.arange(n_turns) // 3, "turn": np.arange(n_turns) % 3}
        ),
    )


def _splitting() -> Row:
    """Split text and give each token to its sentence: sorted search against a test of every pair in Python."""
    transcripts = [_talk(number) for number in range(N_TALKS)]
    tokens = _word_tokens(transcripts)

    def loops() -> list[list[int]]:
        return [
            _sentences_of_tokens(message.content, bounds)
            for _, bounds, message in _texts(tokens, transcripts)
        ]

    plan = plan_pooling(tokens, transcripts, min_words=0)
    n_sentences = sum(len(set(found)) for found in loops())
    assert len(plan.sentence_lengths) == n_sentences
    return compare(
        f"sentence_splitting[{len(tokens)} tokens]",
        lambda: plan_pooling(tokens, transcripts, min_words=0),
        loops,
        amount=len(tokens) / 1e6,
        unit="M tokens",
        peer_name="each token against each sentence in a loop",
        command="python -m benchmarks.run segment_scores",
        rounds=3,
    )


def _talk(number: int) -> Transcript:
    rng = np.random.default_rng(number)
    words = np.array(["we", "could", "leave", "it", "there.", "and", "then", "go", "on!", "so\n"])
    messages = [
        message
        for _ in range(3)
        for message in (
            Message(role="user", content="go on"),
            Message(role="assistant", content=" ".join(rng.choice(words, size=400)).strip()),
        )
    ]
    return Transcript(id=str(number), messages=number_turns(messages))


def _word_tokens(transcripts: list[Transcript]) -> pd.DataFrame:
    rows = [
        (conversation, index, message.turn, word.start(), word.end())
        for conversation, transcript in enumerate(transcripts)
        for index, message in enumerate(transcript.messages)
        if message.role == "assistant"
        for word in re.finditer(r"\S+", message.content)
    ]
    columns = ["conversation", "message", "turn", "char_start", "char_end"]
    return pd.DataFrame(rows, columns=columns).assign(role="assistant", section="answer")


def _texts(tokens: pd.DataFrame, transcripts: list[Transcript]):
    for key, here in tokens.groupby(["conversation", "message"]):
        bounds = list(zip(here["char_start"], here["char_end"], strict=True))
        yield key, bounds, transcripts[key[0]].messages[key[1]]


def _sentences_of_tokens(text: str, tokens: list[tuple[int, int]]) -> list[int]:
    """The number of each token's sentence, by the middle of the token."""
    sentences, at = [], 0
    for piece in re.split(r"((?<=[.!?])\s+|\n+)", text):
        if piece.strip():
            sentences.append((at, at + len(piece)))
        at += len(piece)
    found = []
    for start, end in tokens:
        middle = (start + end) / 2
        inside = [n for n, (first, last) in enumerate(sentences) if first <= middle <= last]
        found.append(inside[0] if inside else -1)
    return found
