"""Turns of transcripts whose truth is known, for the tests of metrics."""

import numpy as np

from mechprobe.evaluation.units import Turns, Units


def planted_turns(
    rng: np.random.Generator, n_transcripts: int, *, most_turns: int = 6
) -> tuple[Turns, np.ndarray]:
    """Half of the transcripts are positive, in about half of their turns; and the numbers of the turns."""
    n_turns = rng.integers(1, most_turns + 1, size=n_transcripts)
    transcript = np.repeat(np.arange(n_transcripts), n_turns)
    in_positive = (np.arange(n_transcripts) % 2 == 0)[transcript]
    is_positive = in_positive & (rng.random(len(transcript)) < 0.5)
    number = np.concatenate([np.arange(n) + 1 for n in n_turns])
    return Turns(transcript=transcript, is_positive=is_positive, in_positive=in_positive), number


def clustered_units(
    rng: np.random.Generator,
    n_transcripts: int,
    *,
    gap: float = 1.0,
    shared: float = 1.0,
    whole: bool = False,
) -> Units:
    """Turns that share an offset with those of their transcript, of both classes or (`whole`) of one."""
    clusters = np.repeat(np.arange(n_transcripts), rng.integers(1, 6, size=n_transcripts))
    is_positive = rng.random(len(clusters)) < 0.4
    if whole:
        is_positive = is_positive[np.unique(clusters, return_index=True)[1]][clusters]
    is_positive[[0, -1]] = True, False
    scores = shared * rng.normal(size=n_transcripts)[clusters] + rng.normal(size=len(clusters))
    return Units(scores=scores + gap * is_positive, is_positive=is_positive, clusters=clusters)


def with_scores(units: Units, scores: np.ndarray) -> Units:
    """The same units with other scores."""
    return Units(
        scores=scores.astype(np.float64), is_positive=units.is_positive, clusters=units.clusters
    )
