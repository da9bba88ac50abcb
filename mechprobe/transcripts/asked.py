"""Which indicators were looked for in a transcript: of the others nothing is known, not even their absence."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from mechprobe.transcripts.transcript import Transcript

LABELLED_FOR = "labelled_for"
"""Key of `Transcript.meta`: slug of the one indicator that was looked for; without it, all were."""


def was_asked(transcript: Transcript, indicators: Sequence[str]) -> Bool[np.ndarray, "indicator"]:
    """Whether each indicator was looked for."""
    only = transcript.meta.get(LABELLED_FOR)
    return np.array([only is None or slug == only for slug in indicators], dtype=bool)
