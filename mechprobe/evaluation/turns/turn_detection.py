"""How well misaligned turns and transcripts are detected in real conversations, out of fold by scenario.

Probes are fitted on tokens (`probes.labels.token_labels.label_tokens`), score every token of the scenarios held out, and
are pooled to turns and transcripts: of the full text, of the reasoning alone and of the answer alone, from one
reading. Text baselines are fitted on the turns of the same folds and see the same sections. Beside the indicators
stands `misaligned`, the question that judges answer; for it the paper's mixed AUROC is given too, with its own
chance level, and the indicators' probes are fused to one score in several ways.

Every scorer, of activations or of text, is ranked over the pairs of units of one fold (see `evaluation.units`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

from mechprobe.baselines.embeddings import Embed, embedding_baseline
from mechprobe.baselines.judges import judge_scores
from mechprobe.baselines.tokens import TOKEN_EMBEDDING, TokenBaseline, token_baselines
from mechprobe.errors import ConfigError
from mechprobe.evaluation.folds import TokenSource, folds_of
from mechprobe.evaluation.results import Detection
from mechprobe.evaluation.turns.conversations import Conversations
from mechprobe.evaluation.turns.neutral_turns import NeutralSet, find_neutral_turns
from mechprobe.evaluation.turns.scored_turns import TurnFolds
from mechprobe.evaluation.turns.scorer_names import sort_names
from mechprobe.evaluation.turns.text_scoring import text_scores
from mechprobe.evaluation.turns.turn_config import TurnDetectionConfig
from mechprobe.evaluation.turns.turn_scoring import probe_scores, token_scores
from mechprobe.evaluation.turns.turn_tables import TurnStudy, TurnTables
from mechprobe.evaluation.turns.turn_units import turn_truth
from mechprobe.probes.labels.token_labels import label_tokens
from mechprobe.probes.scoring.aggregation import plan_views
from mechprobe.transcripts.splits import group_names, grouped_folds
from mechprobe.transcripts.transcript import Transcript

ReadTokenVectors: TypeAlias = Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]
"""From the ids of a store's tokens to a reader of the vectors of some of its rows; see `embedders.token_vectors`."""


def detect_turns(
    tokens: pd.DataFrame,
    spans: pd.DataFrame,
    transcripts: Sequence[Transcript],
    indicators: Sequence[str],
    source: TokenSource | Sequence[TokenSource],
    config: TurnDetectionConfig | None = None,
) -> Detection:
    """The ranking of full turns alone; see `study_turns`."""
    return study_turns(tokens, spans, transcripts, indicators, source, config).detection


def study_turns(
    tokens: pd.DataFrame,
    spans: pd.DataFrame,
    transcripts: Sequence[Transcript],
    indicators: Sequence[str],
    source: TokenSource | Sequence[TokenSource],
    config: TurnDetectionConfig | None = None,
    *,
    unions: Mapping[str, tuple[str, ...]] | None = None,
    embedders: Mapping[str, Embed] | None = None,
    token_vectors: ReadTokenVectors | None = None,
    neutral: NeutralSet | None = None,
) -> TurnStudy:
    """Fit, score and evaluate every scorer out of fold, judges included; the bank is that of the first fold.

    Args:
        tokens: the store's token table.
        spans: as made by `activations.rows.span_table` for the same transcripts.
        source: one hook point or several; each has all estimators.
        unions: behaviour -> its indicators (see `decomposition.unions_of`), for coarse probes beside the fine.
        embedders: baseline -> how it embeds texts; each is read by a logistic regression.
        token_vectors: how to embed the tokens of a store, given its column `token_id`; for "token_embedding".
        neutral: transcripts that thresholds are tuned on, with a source for every hook point; None: thresholds are
            tuned on the neutral turns of other folds.

    Raises:
        ConfigError: there are fewer scenarios than folds, or "token_embedding" is asked for without its vectors.
        DataError: the neutral set is not neutral, not apart from the transcripts, or too small for every target.
        LabelError: a span or a union has an indicator that is not asked for.
    """
    config = config or TurnDetectionConfig()
    given = prepare_turns(
        tokens, spans, transcripts, indicators, config, unions=unions, neutral=neutral
    )
    tables = TurnTables(given.all_turns, config)
    for one_source in (source,) if isinstance(source, TokenSource) else source:
        sets, scored = probe_scores(given, one_source, config)
        tables.sets += sets
        for one in scored:
            tables.add_probe(one)
    made = [embedding_baseline(embed, name) for name, embed in (embedders or {}).items()]
    for one in text_scores(given, config, made):
        tables.add(one)
    own, apart = _token_baselines(given, config, token_vectors)
    for one in token_scores(given, own, config, apart):
        tables.add(one)
    for judge, values in _judges(given).items():
        tables.add_judge(judge, values)
    return tables.finish()


def prepare_turns(
    tokens: pd.DataFrame,
    spans: pd.DataFrame,
    transcripts: Sequence[Transcript],
    indicators: Sequence[str],
    config: TurnDetectionConfig,
    *,
    unions: Mapping[str, tuple[str, ...]] | None = None,
    neutral: NeutralSet | None = None,
) -> Conversations:
    """The labels, folds and units of a study, from which everything else follows; see `study_turns`."""
    unions = unions or {}
    labelled = label_tokens(
        tokens,
        spans,
        transcripts,
        indicators,
        config.labels,
        unions=unions,
        max_negatives=config.max_negatives,
        seed=config.seed,
    )
    plan = plan_views(tokens, transcripts, min_words=config.min_words, views=config.views)
    truth = turn_truth(transcripts, plan.views["full"].turns, indicators)
    by = group_names(transcripts) if config.fold_by == "scenario" else [t.id for t in transcripts]
    number = grouped_folds(by, config.n_folds, config.seed)
    return Conversations(
        tokens=tokens,
        transcripts=transcripts,
        labelled=labelled,
        plan=plan,
        folds=list(folds_of(number)),
        turns=TurnFolds(
            truth=truth, fold=number[truth.turns["conversation"].to_numpy()], unions=dict(unions)
        ),
        neutral=neutral and find_neutral_turns(neutral, transcripts, config),
    )


def _token_baselines(
    given: Conversations, config: TurnDetectionConfig, read: ReadTokenVectors | None
) -> tuple[list[TokenBaseline], list[TokenBaseline]]:
    """The baselines at tokens that are asked for: over the tested transcripts, and over the neutral set."""
    wanted = sort_names(config.estimators).tokens
    if not wanted:
        return [], []
    if TOKEN_EMBEDDING in wanted and read is None:
        raise ConfigError(
            f"{TOKEN_EMBEDDING!r} is asked for without token vectors; pass token_vectors, or leave it out."
        )
    kinds = np.unique(given.tokens["token_id"].to_numpy(dtype=np.int64))
    tables = [given.tokens, *([given.neutral.given.tokens] if given.neutral else [])]
    found: list[list[TokenBaseline]] = []
    for table in tables:
        vectors = None
        if TOKEN_EMBEDDING in wanted and read is not None:
            vectors = read(table["token_id"].to_numpy(dtype=np.int64))
        every = token_baselines(table, vectors, kinds=kinds)
        found.append([one for one in every if one.name in wanted])
    return found[0], found[1] if given.neutral else []


def _judges(given: Conversations) -> dict[str, np.ndarray]:
    """Each judge's scores of the tested turns, and of the neutral set where it scored that."""
    judges = judge_scores(given.transcripts, given.turns.truth.turns)
    if given.neutral is None:
        return judges
    apart = judge_scores(given.neutral.given.transcripts, given.neutral.turns)
    unknown = np.full(given.neutral.n_turns, np.nan)
    return {
        judge: np.concatenate([values, np.tile(apart.get(judge, unknown), len(given.folds))])
        for judge, values in judges.items()
    }
