"""Token scores to turn scores for 18 probes, sentence boundaries given: segment reductions against loops."""

import numpy as np
import pandas as pd

from benchmarks.timing import Row, compare
from mechprobe.probes.aggregation import Pooling, pool

N_TURNS, N_INDICATORS = 3000, 18


def measure() -> Row:
    """Sentences of 5 to 40 tokens, turns of 1 to 20 sentences, three turns a transcript."""
    rng = np.random.default_rng(0)
    turn_lengths = rng.integers(1, 21, size=N_TURNS)
    sentence_lengths = rng.integers(5, 41, size=turn_lengths.sum())
    n_tokens = int(sentence_lengths.sum())
    pooling = Pooling(
        rows=np.arange(n_tokens),
        sentence_lengths=sentence_lengths,
        turn_lengths=turn_lengths,
        transcript_lengths=np.full(N_TURNS // 3, 3),
        turns=pd.DataFrame(
            {"conversation": np.arange(N_TURNS) // 3, "turn": np.arange(N_TURNS) % 3}
        ),
    )
    scores = rng.normal(size=(n_tokens, N_INDICATORS)).astype(np.float32)
    sentence_ends = np.cumsum(sentence_lengths)
    turn_ends = np.cumsum(turn_lengths)

    def loops() -> np.ndarray:
        turns = np.zeros((N_TURNS, N_INDICATORS), dtype=np.float32)
        for indicator in range(N_INDICATORS):
            column = scores[:, indicator]
            means = [
                column[end - length : end].mean()
                for end, length in zip(sentence_ends, sentence_lengths, strict=True)
            ]
            for turn, (end, length) in enumerate(zip(turn_ends, turn_lengths, strict=True)):
                turns[turn, indicator] = max(means[end - length : end])
        return turns

    gap = np.abs(pool(scores, pooling).turn - loops()).max()
    assert gap < 1e-5, f"the two poolings differ by {gap}"
    return compare(
        f"segment_scores[{n_tokens} tokens x {N_INDICATORS}]",
        lambda: pool(scores, pooling),
        loops,
        amount=n_tokens / 1e6,
        unit="M tokens",
        peer_name="numpy slices in a loop",
        command="python -m benchmarks.run segment_scores",
        rounds=3,
    )
