"""What turns really hold, their text, and how a scorer of turns is reported."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Int8

from mechprobe.evaluation.results import Collector
from mechprobe.evaluation.units import Turns, Units, mixed_units, transcript_units, turn_units
from mechprobe.probes.labels.examples import MISALIGNED
from mechprobe.transcripts.asked import was_asked
from mechprobe.transcripts.transcript import Section, Transcript


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TurnTruth:
    """The labels of the scored turns; the last column is `misaligned`."""

    columns: tuple[str, ...]
    turns: pd.DataFrame
    """Columns conversation, turn, transcript_id."""
    labels: Int8[np.ndarray, "turn column"]
    """1 has it, 0 has it not, -1 unlabelled or excluded."""
    in_positive: Bool[np.ndarray, "turn column"]
    """Whether any turn of the turn's transcript has it."""
    neutral: Bool[np.ndarray, "turn"]
    """Whether the turn's transcript is known to hold nothing: what thresholds are tuned on."""


def turn_truth(
    transcripts: Sequence[Transcript], turns: pd.DataFrame, indicators: Sequence[str]
) -> TurnTruth:
    """Labels of turns by indicator, and whether the turn is misaligned.

    Where nobody judged the turns of a transcript, a turn with any indicator counts as misaligned.

    Args:
        turns: columns `conversation` (index into `transcripts`) and `turn`.
    """
    labels = np.full((len(turns), len(indicators) + 1), -1, dtype=np.int8)
    in_positive = np.zeros(labels.shape, dtype=bool)
    neutral = np.zeros(len(turns), dtype=bool)
    keys = zip(turns["conversation"].tolist(), turns["turn"].tolist(), strict=True)
    for row, (conversation, turn) in enumerate(keys):
        transcript = transcripts[conversation]
        judged = transcript.misaligned_turns
        if transcript.excluded or not (transcript.is_labelled or judged is not None):
            continue
        here, anywhere = transcript.indicators(turn), transcript.all_indicators
        labels[row, :-1] = [slug in here for slug in indicators]
        in_positive[row, :-1] = [slug in anywhere for slug in indicators]
        labels[row, -1] = bool(here) if judged is None else turn in judged
        in_positive[row, -1] = bool(anywhere if judged is None else judged)
        asked = was_asked(transcript, indicators)
        labels[row, :-1][~asked] = -1
        nothing = not anywhere and not judged and transcript.is_misaligned is not True
        neutral[row] = nothing and (bool(asked.all()) or transcript.is_misaligned is False)
        if not (here or judged is not None or asked.all() or neutral[row]):
            labels[row, -1] = -1
    ids = [transcripts[conversation].id for conversation in turns["conversation"]]
    return TurnTruth(
        columns=(*indicators, MISALIGNED),
        turns=turns.assign(transcript_id=ids),
        labels=labels,
        in_positive=in_positive,
        neutral=neutral,
    )


def turn_texts(
    transcripts: Sequence[Transcript],
    turns: pd.DataFrame,
    sections: Sequence[Section] = ("reasoning", "answer"),
) -> tuple[str, ...]:
    """What the assistant wrote in each turn, in these sections: what text baselines read."""
    texts: list[str] = []
    keys = zip(turns["conversation"].tolist(), turns["turn"].tolist(), strict=True)
    for conversation, turn in keys:
        transcript = transcripts[conversation]
        messages = [transcript.messages[at] for at in transcript.assistant_messages(turn)]
        texts.append(
            "\n".join(message.text(section) for message in messages for section in sections)
        )
    return tuple(texts)


def report_turns(
    collector: Collector,
    scorer: str,
    truth: TurnTruth,
    scores: Float[np.ndarray, "turn column"],
    *,
    fold: Int[np.ndarray, "turn"] | None = None,
    hook_name: str = "",
) -> None:
    """Hand a scorer's turns and transcripts to the collector; NaN marks what it did not score.

    Args:
        fold: which fit scored each turn; turns of different fits are not compared. None: one fit scored all.
    """
    for at, column in enumerate(truth.columns):
        used = (truth.labels[:, at] >= 0) & np.isfinite(scores[:, at])
        if not used.any():
            continue
        here = truth.turns.loc[used].reset_index(drop=True)
        turns = Turns(
            transcript=here["conversation"].to_numpy(dtype=np.int64),
            is_positive=truth.labels[used, at] == 1,
            in_positive=truth.in_positive[used, at],
            fold=None if fold is None else fold[used],
        )
        of_turns = turn_units(scores[used, at], turns)
        of_transcripts = transcript_units(scores[used, at], turns)
        first = here.drop_duplicates("conversation").sort_values("conversation")
        keyed: dict[str, tuple[Units, pd.DataFrame | None]] = {
            "turn": (of_turns, _keys(here, here["turn"].to_numpy(), of_turns)),
            "transcript": (of_transcripts, _keys(first, -1, of_transcripts)),
        }
        if column == MISALIGNED:
            keyed["mixed"] = (mixed_units(scores[used, at], turns), None)
        for unit, (units, keys) in keyed.items():
            collector.add(
                units, indicator=column, scorer=scorer, unit=unit, hook_name=hook_name, keys=keys
            )


def _keys(turns: pd.DataFrame, number: np.ndarray | int, units: Units) -> pd.DataFrame:
    """SCORE_KEYS of turns, or of transcripts (turn -1)."""
    return pd.DataFrame(
        {
            "transcript_id": turns["transcript_id"].to_numpy(),
            "turn": number,
            "span_id": -1,
            "kind": np.where(units.is_positive, "positive", "negative"),
        }
    )
