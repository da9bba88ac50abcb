"""Other people's scores of the same turns, for instance an LLM judge's, as scorers among ours."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from mechprobe.transcripts.transcript import Transcript


def judge_scores(
    transcripts: Sequence[Transcript], turns: pd.DataFrame
) -> dict[str, Float[np.ndarray, "turn"]]:
    """Each judge's score of each turn, NaN where it gave none.

    Args:
        turns: columns `conversation` (index into `transcripts`) and `turn`.
    """
    judges = sorted({judge for transcript in transcripts for judge in transcript.scores})
    keys = list(zip(turns["conversation"].tolist(), turns["turn"].tolist(), strict=True))
    return {
        judge: np.array(
            [transcripts[at].scores.get(judge, {}).get(turn, np.nan) for at, turn in keys],
            dtype=np.float64,
        )
        for judge in judges
    }
