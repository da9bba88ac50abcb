"""One section an indicator: everything the run knows about it, shaped for its page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup

from mechprobe.errors import DataError
from mechprobe.reports.causes import SiteMap, site_maps
from mechprobe.reports.effects import EffectRow
from mechprobe.reports.estimates import Estimate, estimate_of, to_float, to_text
from mechprobe.reports.figures import dose_figure, figure_json, roc_figure, site_figure
from mechprobe.reports.heatmap import HeatExample, heat_examples, heat_scale, heat_text
from mechprobe.reports.names import IndicatorName
from mechprobe.reports.overview import OverviewRow, held_out, units_of
from mechprobe.reports.places import marked, used_sites
from mechprobe.reports.rates import (
    EqualDamageRow,
    RateRow,
    RemainsRow,
    equal_damage_rows,
    rate_rows,
    remains_rows,
)
from mechprobe.reports.rows import column_text, records, rows_at, rows_where
from mechprobe.reports.run_files import FEATURE_EXAMPLES, run_again
from mechprobe.reports.tables import RunTables, SaeTables
from mechprobe.reports.wording import CONTROL_WORDS, STRATUM_WORDS, UNIT_WORDS, plain
from mechprobe.reports.writing import ChangedText, DamageRow, changed_texts, damage_rows

TOP_FEATURES = 5
EXAMPLES_A_FEATURE = 3
ROC_UNITS = 2
"""Units that get a ROC figure; the table beside them has all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """A figure's place in the page."""

    id: str
    caption: str
    height: int
    json: Markup


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRow:
    """One line of an indicator's detection table."""

    unit: str
    scorer: str
    hook_name: str
    auroc: Estimate
    chance: float
    n_pos: float
    n_neg: float
    tpr_at_1pct: float
    tpr_at_5pct: float


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureView:
    """An SAE feature that goes with the indicator, and where it fires."""

    feature: int
    label_words: str
    weight: float
    auroc: float
    mean_positive: float
    mean_negative: float
    density: float
    examples: tuple[Markup, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class IndicatorSection:
    """What one indicator's section shows; the causal parts are empty in a study without interventions."""

    name: IndicatorName
    row: OverviewRow
    scores: tuple[ScoreRow, ...]
    roc_plots: tuple[Plot, ...]
    examples: tuple[HeatExample, ...]
    features: tuple[FeatureView, ...]
    effects: tuple[EffectRow, ...]
    partner_effects: tuple[EffectRow, ...]
    """Effects given that another indicator is held too, or is not."""
    control_names: tuple[str, ...]
    """Controls that any of the effects has."""
    dose_plot: Plot | None
    site_plots: tuple[Plot, ...]
    changed_texts: tuple[ChangedText, ...]
    damage: tuple[DamageRow, ...]
    rates: tuple[RateRow, ...]
    equal_damage: tuple[EqualDamageRow, ...]
    remains: tuple[RemainsRow, ...]


def make_plot(plot_id: str, caption: str, figure: go.Figure) -> Plot:
    """Give a figure its place."""
    height = int(figure.layout.height or 330)
    return Plot(id=plot_id, caption=caption, height=height, json=Markup(figure_json(figure)))


def indicator_section(tables: RunTables, row: OverviewRow) -> IndicatorSection:
    """Gather an indicator's section from the tables."""
    slug, anchor = row.name.slug, row.name.anchor
    causal = tables.causal
    sites = site_maps(causal.sites, slug) if causal else []
    chosen = marked(used_sites(causal), slug) if causal else {}
    controls = {control.name for effect in row.effects for control in effect.controls}
    return IndicatorSection(
        name=row.name,
        row=row,
        scores=tuple(score_rows(tables.detection, slug)),
        roc_plots=tuple(_roc_plots(tables.roc, slug, anchor)),
        examples=tuple(heat_examples(tables.examples, slug)),
        features=tuple(feature_views(tables.sae, slug)) if tables.sae else (),
        effects=tuple(effect for effect in row.effects if effect.stratum in STRATUM_WORDS),
        partner_effects=tuple(
            effect for effect in row.effects if effect.stratum not in STRATUM_WORDS
        ),
        control_names=tuple(name for name in CONTROL_WORDS if name in controls),
        dose_plot=_dose_plot(causal.dose, slug, anchor) if causal else None,
        site_plots=tuple(_site_plot(site, anchor, i, chosen) for i, site in enumerate(sites)),
        changed_texts=tuple(changed_texts(causal.generations, slug)) if causal else (),
        damage=tuple(damage_rows(causal.damage, slug)) if causal else (),
        rates=tuple(rate_rows(causal.rates, slug)) if causal else (),
        equal_damage=tuple(equal_damage_rows(causal.equal_damage, slug)) if causal else (),
        remains=tuple(remains_rows(causal.remains, slug)) if causal else (),
    )


def score_rows(detection: pd.DataFrame, indicator: str) -> list[ScoreRow]:
    """All held-out scores of an indicator, by unit, as the table lists them."""
    mine = rows_where(held_out(detection), indicator=indicator)
    return [
        _score_row(row) for unit in units_of(mine) for row in records(rows_where(mine, unit=unit))
    ]


def _score_row(row: dict[str, Any]) -> ScoreRow:
    return ScoreRow(
        unit=to_text(row["unit"]),
        scorer=to_text(row["scorer"]),
        hook_name=to_text(row.get("hook_name")),
        auroc=estimate_of(row, "auroc"),
        chance=to_float(row["chance"]),
        n_pos=to_float(row["n_pos"]),
        n_neg=to_float(row["n_neg"]),
        tpr_at_1pct=to_float(row.get("tpr_at_1pct")),
        tpr_at_5pct=to_float(row.get("tpr_at_5pct")),
    )


def _roc_plots(roc: pd.DataFrame, indicator: str, anchor: str) -> list[Plot]:
    mine = one_hook_a_scorer(rows_where(roc, indicator=indicator))
    return [
        make_plot(
            f"{anchor}-roc-{i}",
            f"ROC by {UNIT_WORDS.get(unit, unit)}",
            roc_figure(rows_where(mine, unit=unit)),
        )
        for i, unit in enumerate(units_of(mine)[:ROC_UNITS])
    ]


def one_hook_a_scorer(roc: pd.DataFrame) -> pd.DataFrame:
    """Only the first hook point of each scorer and unit, so that a curve is one curve."""
    if "hook_name" not in roc.columns:
        return roc
    keys = list(zip(roc["unit"], roc["scorer"], column_text(roc, "hook_name"), strict=True))
    first: dict[tuple[Any, Any], str] = {}
    for unit, scorer, hook_name in keys:
        first.setdefault((unit, scorer), hook_name)
    keep = [first[unit, scorer] == hook_name for unit, scorer, hook_name in keys]
    return rows_at(roc, np.array(keep, dtype=bool))


def _dose_plot(dose: pd.DataFrame, indicator: str, anchor: str) -> Plot | None:
    mine = rows_where(dose, indicator=indicator)
    if mine.empty:
        return None
    return make_plot(f"{anchor}-dose", "Dose and response", dose_figure(mine))


def _site_plot(
    site: SiteMap, anchor: str, index: int, chosen: Mapping[tuple[str, str], int]
) -> Plot:
    outcome = f" (outcome: {plain(site.outcome).lower()})" if site.outcome else ""
    return make_plot(
        f"{anchor}-site-{index}", f"Where it acts{outcome}", site_figure(site.effect, chosen=chosen)
    )


def feature_views(sae: SaeTables, indicator: str) -> list[FeatureView]:
    """The top features of an indicator, each with its strongest examples."""
    mine = rows_where(sae.features, indicator=indicator).sort_values(by="rank")
    return [_feature_view(row, sae) for row in records(mine.head(TOP_FEATURES))]


def _feature_view(row: dict[str, Any], sae: SaeTables) -> FeatureView:
    feature = int(row["feature"])
    examples = list(sae.examples.get(str(feature), ()))[:EXAMPLES_A_FEATURE]
    scale = heat_scale(examples, "acts")
    return FeatureView(
        feature=feature,
        label_words=_words(row.get("label_words")),
        weight=to_float(row.get("weight")),
        auroc=to_float(row.get("auroc")),
        mean_positive=to_float(row.get("mean_positive")),
        mean_negative=to_float(row.get("mean_negative")),
        density=to_float(row.get("density")),
        examples=tuple(_feature_text(example, scale) for example in examples),
    )


def _feature_text(example: Any, scale: float) -> Markup:
    """A feature's example, cut to the neighbourhood of its strongest token."""
    tokens = [str(token) for token in example["tokens"]]
    acts = [float(act) for act in example["acts"]]
    if len(tokens) != len(acts):
        raise DataError(
            f"an example in feature_examples.json has {len(tokens)} tokens and {len(acts)} acts; "
            f"{run_again(FEATURE_EXAMPLES)}"
        )
    return heat_text(tokens, acts, [False] * len(tokens), scale)


def _words(value: Any) -> str:
    """Label words of a feature: a list, an array, or one text."""
    if value is None or isinstance(value, float):
        return ""
    words: Sequence[Any] = [value] if isinstance(value, str) else list(value)
    return ", ".join(str(word) for word in words)
