"""How well misaligned turns and transcripts are detected in real conversations, out of fold by scenario.

Probes are fitted on tokens (`probes.labels.token_labels.label_tokens`), score every token of the scenarios held out, and
are pooled to turns and transcripts: of the full text, of the reasoning alone and of the answer alone, from one
reading. Text baselines are fitted on the turns of the same folds and see the same sections. Beside the indicators
stands `misaligned`, the question that judges answer; for it the paper's mixed AUROC is given too, with its own
chance level, and the indicators' probes are fused to one score in several ways.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from mechprobe.baselines.embeddings import Embed, embedding_baseline
from mechprobe.baselines.judges import judge_scores
from mechprobe.evaluation.folds import TokenSource, folds_of
from mechprobe.evaluation.results import Detection
from mechprobe.evaluation.turns.scored_turns import TurnFolds
from mechprobe.evaluation.turns.turn_config import TurnDetectionConfig
from mechprobe.evaluation.turns.turn_scoring import Conversations, probe_scores, text_scores
from mechprobe.evaluation.turns.turn_tables import TurnStudy, TurnTables
from mechprobe.evaluation.turns.turn_units import turn_truth
from mechprobe.probes.labels.token_labels import label_tokens
from mechprobe.probes.scoring.aggregation import plan_views
from mechprobe.transcripts.splits import group_names, grouped_folds
from mechprobe.transcripts.transcript import Transcript


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
) -> TurnStudy:
    """Fit, score and evaluate every scorer out of fold, judges included; the bank is that of the first fold.

    Args:
        tokens: the store's token table.
        spans: as made by `activations.rows.span_table` for the same transcripts.
        source: one hook point or several; each has all estimators.
        unions: behaviour -> its indicators (see `decomposition.unions_of`), for coarse probes beside the fine.
        embedders: baseline -> how it embeds texts; each is read by a logistic regression.

    Raises:
        ConfigError: there are fewer scenarios than folds.
        LabelError: a span or a union has an indicator that is not asked for.
    """
    config = config or TurnDetectionConfig()
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
    given = Conversations(
        tokens=tokens,
        transcripts=transcripts,
        labelled=labelled,
        plan=plan,
        folds=list(folds_of(number)),
        turns=TurnFolds(
            truth=truth, fold=number[truth.turns["conversation"].to_numpy()], unions=dict(unions)
        ),
    )
    tables = TurnTables(given.turns, config)
    for one_source in (source,) if isinstance(source, TokenSource) else source:
        sets, scored = probe_scores(given, one_source, config)
        tables.sets += sets
        for one in scored:
            tables.add_probe(one)
    made = [embedding_baseline(embed, name) for name, embed in (embedders or {}).items()]
    for one in text_scores(given, config, made):
        tables.add(one)
    for judge, values in judge_scores(transcripts, truth.turns).items():
        tables.add_judge(judge, values)
    return tables.finish()
