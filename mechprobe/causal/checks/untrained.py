"""What the same study finds where nothing was learned: a random model, and an SAE with random decoder rows.

Activations of an untrained transformer still tell its words apart, and so do the best of many random features: a probe
or a feature is worth what it has above them (arXiv 1810.03292 for networks; 2501.17727 for SAEs of random transformers).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from mechprobe.causal.cases import Case
from mechprobe.causal.checks.span_halves import halve
from mechprobe.causal.directions import SpanActs
from mechprobe.causal.effects import BATCH_TOKENS, interchange_plan, measure
from mechprobe.causal.places.sites import SiteActs, site_acts
from mechprobe.causal.swaps import along, feature_part, swap_plan
from mechprobe.causal.verdicts.strata import Baseline
from mechprobe.errors import ShapeError
from mechprobe.evaluation.bootstrap import Interval, auroc_interval
from mechprobe.models.subject import Subject
from mechprobe.probes.estimators import auroc_by_column
from mechprobe.saes.lens import Sae, decoder_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFigures:
    """One indicator in a model, trained or not."""

    indicator: str
    auroc: Interval
    """Of the difference of means, fitted on half of the spans and read on the other half."""
    moved: float
    """Mean size of the interchange's change of the outcome, in natural gaps of the trained model."""
    text_flip: float
    """The same for flipping the text."""
    n: int
    """Cases."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BestFeature:
    """The feature of an SAE that goes best with an indicator."""

    feature: int
    auroc_chosen: float
    """On the half of the spans that chose it: too good, as the best of many is."""
    auroc: Interval
    """On the other half."""
    vector: Float[Tensor, "d_in"]
    """Unit vector along its decoder row."""


def model_figures(
    subject: Subject,
    spans: SpanActs,
    indicator: str,
    cases: Sequence[Case],
    outcome: str,
    *,
    scale: float,
    groups: Sequence[str] | None = None,
    batch_tokens: int = BATCH_TOKENS,
    n_boot: int = 1000,
    seed: int = 0,
) -> ModelFigures:
    """Fit the direction on a model's own activations and interchange along it.

    The change counts by size, whichever way it goes, since an untrained model has no right way: this favours the
    control.

    Args:
        spans: captured on this model.
        cases: of the indicator; the tokens are those of the trained model, which has the same tokenizer.
        scale: natural gap of the outcome in the trained model, in logits.

    Raises:
        DataError, ShapeError, HookError: see `halve` and `site_acts`.
    """
    halves = halve(spans, indicator, groups=groups, seed=seed)
    difference = halves.difference_of_means()
    scores = einsum(halves.held_acts, difference, "held d, d -> held").numpy()
    acts = site_acts(subject, cases, spans.site, outcome)
    flipped = [case.flipped for case in cases]
    base, other = (
        measure(subject, some, outcome, batch_tokens=batch_tokens).logit_diff[0]
        for some in (cases, flipped)
    )
    plan = interchange_plan(acts, difference[None])
    edited = measure(subject, cases, outcome, plan=plan, batch_tokens=batch_tokens).logit_diff[0]
    return ModelFigures(
        indicator=indicator,
        auroc=auroc_interval(halves.held_units(scores), n_boot=n_boot, seed=seed),
        moved=float(np.abs(edited - base).mean() / scale),
        text_flip=float(np.abs(other - base).mean() / scale),
        n=len(cases),
    )


def best_feature(
    sae: Sae,
    spans: SpanActs,
    indicator: str,
    *,
    groups: Sequence[str] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> BestFeature:
    """Choose the feature with the highest AUROC on half of the spans and read it on the other half.

    Of equals, the one whose contribution to the activation differs most between the classes.

    Raises:
        DataError: a half lacks spans of a class.
        ShapeError: the SAE reads activations of another width.
        CheckpointError: the SAE's features have no fixed direction.
    """
    if spans.acts.shape[-1] != sae.cfg.d_in:
        raise ShapeError(
            f"the SAE reads activations of width {sae.cfg.d_in} and {spans.site.hook_name} has width "
            f"{spans.acts.shape[-1]}; use an SAE of this hook point."
        )
    halves = halve(spans, indicator, groups=groups, seed=seed)
    with torch.no_grad():
        fit, held = (
            sae.encode(acts.to(sae.W_dec.device, sae.W_dec.dtype)).float().cpu().numpy()
            for acts in (halves.fit_acts, halves.held_acts)
        )
    rows = decoder_rows(sae).detach().float().cpu()
    quality = auroc_by_column(fit, halves.fit_present.numpy())
    difference = fit[halves.fit_present].mean(0) - fit[~halves.fit_present].mean(0)
    contribution = np.where(
        quality == quality.max(), difference * rows.norm(dim=-1).numpy(), -np.inf
    )
    chosen = int(np.argmax(contribution))
    row = rows[chosen]
    return BestFeature(
        feature=chosen,
        auroc_chosen=float(quality[chosen]),
        auroc=auroc_interval(halves.held_units(held[:, chosen]), n_boot=n_boot, seed=seed),
        vector=row / row.norm(),
    )


def feature_table(
    subject: Subject,
    saes: Mapping[str, Sae],
    spans: SpanActs,
    indicator: str,
    cases: Sequence[Case],
    acts: SiteActs,
    unedited: Baseline,
    outcome: str,
    *,
    groups: Sequence[str] | None = None,
    batch_tokens: int = BATCH_TOKENS,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """The best feature of each SAE for an indicator, and what swapping it does.

    Swapped is the coordinate along its decoder row ("decoder_row"), or what the feature itself contributes ("feature").

    Args:
        saes: such as {"trained": sae, "random 0": random_decoder_sae(sae, 0)}.
        unedited: outcomes of the cases without an edit.

    Returns:
        A row for each SAE and operation: sae, indicator, operation, feature, auroc_chosen, auroc, low, high, moved (mean size of the
        outcome's change in natural gaps), effect (share of the text flip's effect; NaN where that flip changes
        nothing), n_changed (cases that it changes).
    """
    found = {
        name: best_feature(sae, spans, indicator, groups=groups, n_boot=n_boot, seed=seed)
        for name, sae in saes.items()
    }
    own, partner = acts.own, acts.partner
    parts = [feature_part(saes[name], [one.feature]) for name, one in found.items()]
    rows_swapped = along(acts, torch.stack([one.vector for one in found.values()]))
    every_case = torch.arange(len(cases))
    moved = [rows_swapped(torch.full_like(every_case, i), every_case) for i in range(len(found))]
    moved += [part(partner) - part(own) for part in parts]
    stacked = torch.stack(moved)
    edited = measure(
        subject,
        cases,
        outcome,
        plan=swap_plan(acts, lambda condition, case: stacked[condition, case]),
        n_conditions=len(stacked),
        batch_tokens=batch_tokens,
    ).logit_diff
    n_changed = int(unedited.changed().sum())
    rows = [
        {
            "sae": name,
            "indicator": indicator,
            "operation": operation,
            "feature": found[name].feature,
            "auroc_chosen": found[name].auroc_chosen,
            **_interval_columns(found[name].auroc),
            "moved": float(np.abs(logit_diff - unedited.base).mean() / unedited.scale),
            "effect": float(unedited.share_of_text_flip(logit_diff).mean())
            if n_changed
            else np.nan,
            "n_changed": n_changed,
        }
        for (operation, name), logit_diff in zip(
            product(("decoder_row", "feature"), found), edited, strict=True
        )
    ]
    return pd.DataFrame(rows)


def model_table(figures: Mapping[str, Sequence[ModelFigures]]) -> pd.DataFrame:
    """A row for each model (such as "trained" and "untrained 0") and indicator."""
    return pd.DataFrame(
        [
            {"model": name, **asdict(one), **_interval_columns(one.auroc)}
            for name, several in figures.items()
            for one in several
        ]
    )


def _interval_columns(interval: Interval) -> dict[str, float]:
    return {"auroc": interval.value, "low": interval.low, "high": interval.high}
