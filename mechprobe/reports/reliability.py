"""Stated probabilities against what happens: reliability curves of `misaligned`, of full turns."""

import html

import pandas as pd
import plotly.graph_objects as go

from mechprobe.evaluation.turns.scored_turns import FITS
from mechprobe.probes.labels.examples import MISALIGNED
from mechprobe.reports.figures import OTHER_STYLE, SCORER_STYLE, add_diagonal, blank_figure
from mechprobe.reports.rows import column_floats, distinct, rows_where
from mechprobe.reports.wording import scorer_words

SHOWN = ("dense_logistic", "sae_logistic", "sae_k_sparse", "dense_attention", "tfidf", "length")
"""Scorers whose curves are drawn, as far as the run has them; the table beside the figure has all."""


def shown_curves(reliability: pd.DataFrame | None) -> pd.DataFrame | None:
    """The curves that a page draws, by the first method of calibration; None where there are none."""
    if reliability is None or reliability.empty:
        return None
    method = next(iter(FITS))
    mine = rows_where(reliability, indicator=MISALIGNED, view="full", method=method)
    mine = mine[mine["scorer"].isin(list(SHOWN))]
    return pd.DataFrame(mine) if len(mine) else None


def reliability_figure(curves: pd.DataFrame) -> go.Figure:
    """Observed shares over stated probabilities, a curve a scorer; the diagonal is perfect calibration."""
    figure = blank_figure(height=410)
    add_diagonal(figure, "Perfect")
    for scorer in sorted(distinct(curves, "scorer"), key=SHOWN.index):
        hook = distinct(rows_where(curves, scorer=scorer), "hook_name")[0]
        rows = rows_where(curves, scorer=scorer, hook_name=hook).sort_values(by="bin")
        observed = column_floats(rows, "observed")
        color, dash, width = SCORER_STYLE.get(scorer, OTHER_STYLE)
        figure.add_scatter(
            x=column_floats(rows, "stated").round(4).tolist(),
            y=observed.round(4).tolist(),
            error_y={
                "type": "data",
                "symmetric": False,
                "array": (column_floats(rows, "high") - observed).clip(0).round(4).tolist(),
                "arrayminus": (observed - column_floats(rows, "low")).clip(0).round(4).tolist(),
                "thickness": 1,
                "width": 2,
            },
            customdata=column_floats(rows, "n").tolist(),
            mode="lines+markers",
            name=html.escape(scorer_words(scorer)),
            line={"color": color, "dash": dash, "width": width},
            hovertemplate="stated %{x:.2f}, observed %{y:.2f}, %{customdata} turns",
        )
    top = max(0.05, float(column_floats(curves, "stated").max()), _top(curves)) * 1.05
    figure.update_xaxes(title="Stated probability", range=[-0.01, min(1.01, top)])
    figure.update_yaxes(title="Share that is misaligned", range=[-0.01, min(1.02, top)])
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": -0.2})
    return figure


def _top(curves: pd.DataFrame) -> float:
    return float(column_floats(curves, "high").max())
