"""The interactive figures: the only importer of plotly. Each is handed to the page as JSON text.

Colours of text, grid and background come from the page (it knows its theme); the traces keep middle tones that
read on light and dark. Names of the run are escaped, because plotly reads a little HTML in its texts.
"""

import html
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from mechprobe.reports.effects import NO_CONTROL
from mechprobe.reports.matrix import EffectMatrix
from mechprobe.reports.rows import column_floats, distinct, rows_where
from mechprobe.reports.wording import POSITION_WORDS, number, plain, scorer_words

SCORER_STYLE: dict[str, tuple[str, str, float]] = {
    "dense_logistic": ("#2f7fc1", "solid", 2.6),
    "dense_diff_of_means": ("#2f7fc1", "dash", 1.6),
    "diff_of_means": ("#2f7fc1", "dash", 1.6),
    "sae_k_sparse": ("#d9781e", "solid", 2.2),
    "sae_best_feature": ("#d9781e", "dot", 1.6),
    "sae_single": ("#d9781e", "dot", 1.6),
    "tfidf": ("#7b8794", "solid", 1.8),
    "bag_of_words": ("#7b8794", "dash", 1.6),
    "length": ("#a59a86", "dot", 1.8),
}
OTHER_STYLE = ("#9a7fb0", "dashdot", 1.4)
DASHES = ("solid", "dash", "dot")
DIVERGING = [[0.0, "#2166ac"], [0.5, "#f4f4f2"], [1.0, "#b5402a"]]
SEQUENTIAL = [[0.0, "#f4f4f2"], [0.25, "#f6cf9e"], [0.6, "#e2803a"], [1.0, "#9b2c1d"]]
KL_LIMIT = 0.1
"""Nats of KL on neutral text beyond which an edited model is no longer itself (Arditi et al. 2024)."""


def plotly_script() -> str:
    """The source of plotly.js, to be inlined once in a page."""
    return get_plotlyjs()


def figure_json(figure: go.Figure) -> str:
    """A figure as JSON that may stand inside a script element: no "<" can close it."""
    text = figure.to_json() or "{}"
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def add_diagonal(figure: go.Figure, name: str) -> None:
    """A dotted line from (0, 0) to (1, 1)."""
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        name=name,
        line={"color": "#999999", "width": 1, "dash": "dot"},
        hoverinfo="skip",
    )


def roc_figure(roc: pd.DataFrame) -> go.Figure:
    """ROC curves by scorer, of the rows of one indicator and one unit; the diagonal is chance."""
    figure = blank_figure(height=410)
    add_diagonal(figure, "Chance")
    for scorer in sorted(distinct(roc, "scorer"), key=_scorer_rank, reverse=True):
        rows = rows_where(roc, scorer=scorer).sort_values(by=["fpr", "tpr"])
        color, dash, width = SCORER_STYLE.get(scorer, OTHER_STYLE)
        figure.add_scatter(
            x=column_floats(rows, "fpr").round(4).tolist(),
            y=column_floats(rows, "tpr").round(4).tolist(),
            mode="lines",
            name=html.escape(scorer_words(scorer)),
            line={"color": color, "dash": dash, "width": width},
            hovertemplate="FPR %{x:.3f}, TPR %{y:.3f}",
        )
    figure.update_xaxes(title="False positive rate", range=[-0.01, 1.01], tick0=0, dtick=0.25)
    figure.update_yaxes(title="True positive rate", range=[-0.01, 1.02], tick0=0, dtick=0.25)
    figure.update_layout(legend={"traceorder": "reversed", "orientation": "h", "x": 0, "y": -0.2})
    return figure


def dose_figure(dose: pd.DataFrame) -> go.Figure:
    """Effect against strength of one indicator's direction, with the band of random directions behind."""
    figure = blank_figure(height=410)
    for name, color in (("random", "120,120,120"), ("shuffled", "150,120,190")):
        _add_control_band(figure, rows_where(dose, control=name), name, color)
    own = rows_where(dose, control=NO_CONTROL).sort_values(by="strength")
    kinds: list[bool] = []
    for direction in distinct(own, "direction"):
        # Of the dense directions, as of the sparse ones, the first is solid.
        kinds.append(_is_sparse(direction))
        dash = DASHES[min(kinds.count(kinds[-1]), len(DASHES)) - 1]
        _add_dose(figure, rows_where(own, direction=direction), direction, dash)
    figure.add_hline(y=0, line={"color": "#999999", "width": 1})
    figure.update_xaxes(title="Strength (multiples of the natural class gap)")
    figure.update_yaxes(title="Effect on the outcome")
    figure.update_layout(legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0})
    return figure


def _is_sparse(direction: str) -> bool:
    return direction.startswith("sae")


def _add_dose(figure: go.Figure, rows: pd.DataFrame, direction: str, dash: str) -> None:
    color = "#d9781e" if _is_sparse(direction) else "#2f7fc1"
    effect = column_floats(rows, "effect")
    damaged = [value > KL_LIMIT for value in column_floats(rows, "kl_neutral")]
    figure.add_scatter(
        x=column_floats(rows, "strength").tolist(),
        y=effect.tolist(),
        error_y={
            "type": "data",
            "symmetric": False,
            "array": (column_floats(rows, "high") - effect).tolist(),
            "arrayminus": (effect - column_floats(rows, "low")).tolist(),
            "thickness": 1.4,
            "width": 3,
        },
        customdata=np.column_stack(
            [column_floats(rows, "mass"), column_floats(rows, "kl_neutral")]
        ).tolist(),
        mode="lines+markers",
        name=html.escape(scorer_words(direction)),
        line={"color": color, "width": 2.4, "dash": dash},
        marker={
            "size": 9,
            "color": color,
            "symbol": ["circle-open" if bad else "circle" for bad in damaged],
        },
        hovertemplate="strength %{x}: effect %{y:.2f}<br>mass on outcome words %{customdata[0]:.2f}"
        "<br>KL on neutral text %{customdata[1]:.3f} nats",
    )


def _add_control_band(figure: go.Figure, rows: pd.DataFrame, name: str, color: str) -> None:
    """The middle 90 % of the draws at each strength; a single summarised row gives its own bounds."""
    if rows.empty:
        return
    strength, effect = column_floats(rows, "strength"), column_floats(rows, "effect")
    strengths = [float(value) for value in np.unique(strength)]
    if len(strengths) < len(rows):
        draws = [effect[strength == value] for value in strengths]
        low = [float(np.quantile(found, 0.05)) for found in draws]
        high = [float(np.quantile(found, 0.95)) for found in draws]
    else:
        order = np.argsort(strength)
        low = column_floats(rows, "low")[order].tolist()
        high = column_floats(rows, "high")[order].tolist()
    figure.add_scatter(
        x=strengths + strengths[::-1],
        y=high + low[::-1],
        fill="toself",
        mode="lines",
        line={"width": 1, "color": f"rgba({color},0.4)"},
        fillcolor=f"rgba({color},0.22)",
        name=f"{plain(name)} directions",
        hoverinfo="skip",
    )


def site_figure(
    effect: pd.DataFrame,
    *,
    chosen: Mapping[tuple[str, str], int] | None = None,
    is_shown: pd.DataFrame | None = None,
) -> go.Figure:
    """Effect of patching: places (rows, first layer at the bottom) x positions.

    Args:
        chosen: (place, position) of the sites that are marked, and for how many indicators.
        is_shown: False puts the number in brackets.
    """
    figure = blank_figure(height=max(150, 70 + 30 * len(effect)))
    values = effect.to_numpy(float)
    texts = _texts(values)
    for i, place in enumerate(effect.index):
        for j, position in enumerate(effect.columns):
            if is_shown is not None and texts[i][j] and not is_shown.iloc[i, j]:
                texts[i][j] = f"({texts[i][j]})"
            if chosen and (str(place), str(position)) in chosen:
                texts[i][j] = f"◆ {texts[i][j]}"
    figure.add_heatmap(
        z=_nested(values),
        x=[html.escape(POSITION_WORDS.get(str(name), str(name))) for name in effect.columns],
        y=[html.escape(str(name)) for name in effect.index],
        colorscale=SEQUENTIAL,
        zmin=0,
        zmax=1,
        text=texts,
        texttemplate="%{text}",
        textfont={"size": 12},
        hovertemplate="%{y}<br>%{x}<br>effect %{z:.2f}<extra></extra>",
        xgap=2,
        ygap=2,
        colorbar={"title": {"text": "Effect"}, "thickness": 12, "len": 0.9},
    )
    figure.update_layout(margin={"l": 150, "r": 10, "t": 10, "b": 40})
    figure.update_xaxes(tickangle=0)
    return figure


def domain_figure(auroc: pd.DataFrame, note: pd.DataFrame, names: Mapping[str, str]) -> go.Figure:
    """AUROC of what was fitted on one domain (rows) on the text of another (columns); white is 0.5."""
    figure = blank_figure(height=120 + 34 * len(auroc))
    values = auroc.to_numpy(float)
    figure.add_heatmap(
        z=_nested(values),
        # A word a line: five domains and more stand beside each other.
        x=[html.escape(names[str(name)]).replace(" ", "<br>") for name in auroc.columns],
        y=[html.escape(names[str(name)]) for name in auroc.index],
        customdata=[[html.escape(cell) for cell in row] for row in note.to_numpy().tolist()],
        colorscale=DIVERGING,
        zmin=0,
        zmax=1,
        text=_texts(values),
        texttemplate="%{text}",
        textfont={"size": 12},
        hoverongaps=True,
        hovertemplate="fitted on %{y}<br>tested on %{x}<br>AUROC %{z:.2f}<br>%{customdata}<extra></extra>",
        xgap=2,
        ygap=2,
        colorbar={"title": {"text": "AUROC"}, "thickness": 12, "len": 0.9},
    )
    for i, j in np.argwhere(np.isnan(values)).tolist():
        figure.add_annotation(
            x=j, y=i, text="too few", showarrow=False, font={"size": 11, "color": "#8a8f94"}
        )
    figure.update_yaxes(autorange="reversed", title="Trained on", showgrid=False)
    figure.update_xaxes(tickangle=0, title="Tested on", showgrid=False)
    figure.update_layout(margin={"l": 150, "r": 10, "t": 10, "b": 60})
    return figure


def cosine_figure(cosines: pd.DataFrame) -> go.Figure:
    """Cosine of each two directions."""
    figure = _square_map(
        cosines.to_numpy(float),
        [str(name) for name in cosines.index],
        title="Cosine",
        hover="%{y}<br>%{x}<br>cosine %{z:.2f}",
        height=160 + 20 * len(cosines),
    )
    figure.update_layout(margin={"l": 200, "r": 10, "t": 10, "b": 150})
    return figure


def matrix_figure(matrix: EffectMatrix, names: Sequence[str]) -> go.Figure:
    """Effect of each indicator's direction (columns) on each indicator's pairs (rows)."""
    figure = _square_map(
        matrix.effect,
        names,
        title="Effect",
        hover="pairs of %{y}<br>direction of %{x}<br>effect %{z:.2f}",
        height=max(320, 150 + 24 * len(names)),
    )
    figure.update_yaxes(title="Pairs of")
    figure.update_xaxes(title="Direction of")
    figure.update_layout(margin={"l": 250, "r": 10, "t": 10, "b": 190})
    return figure


def _square_map(
    values: np.ndarray, names: Sequence[str], *, title: str, hover: str, height: int
) -> go.Figure:
    """A heat-map from -1 to 1 with the same names on both axes."""
    figure = blank_figure(height=height)
    labels = [html.escape(name) for name in names]
    figure.add_heatmap(
        z=_nested(values),
        x=labels,
        y=labels,
        colorscale=DIVERGING,
        zmin=-1,
        zmax=1,
        xgap=1,
        ygap=1,
        hovertemplate=f"{hover}<extra></extra>",
        colorbar={"title": {"text": title}, "thickness": 12, "len": 0.9},
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(tickangle=-45)
    return figure


def blank_figure(*, height: int) -> go.Figure:
    """A figure without marks, in the page's style."""
    figure = go.Figure()
    figure.update_layout(
        template=None,
        height=height,
        margin={"l": 58, "r": 14, "t": 14, "b": 48},
        hovermode="closest",
    )
    return figure


def _scorer_rank(scorer: str) -> int:
    order = list(SCORER_STYLE)
    return order.index(scorer) if scorer in order else len(order)


def _nested(values: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(cell) else round(float(cell), 4) for cell in row] for row in values]


def _texts(values: np.ndarray) -> list[list[str]]:
    return [["" if np.isnan(cell) else number(cell) for cell in row] for row in values]
