"""Files of turn scores whose figures are known, for the tests of `mechprobe evaluate`."""

import numpy as np
import pandas as pd

from tests.evaluation.planted_turns import planted_turns


def score_rows(seed: int = 0, n_transcripts: int = 40, **columns: object) -> pd.DataFrame:
    """Rows of one scorer over planted transcripts, half of them positive; a higher score is more likely positive."""
    rng = np.random.default_rng(seed)
    turns, number = planted_turns(rng, n_transcripts)
    held = {
        "scorer": "probe",
        "layer": 5,
        "view": "full",
        "transcript_id": [f"talk {code}" for code in turns.transcript],
        "turn": number,
        "score": rng.normal(size=len(number)) + 2 * turns.is_positive,
        "gt_misaligned": turns.is_positive,
        "transcript_pos": turns.in_positive,
    }
    return pd.DataFrame({**held, **columns})
