"""What is asked of a direction before its effect is believed: is the edit natural, and is its effect no illusion?

The manifold and what later layers read are described once for a site; each direction is then held against them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mechprobe.causal.cases import Case
from mechprobe.causal.checks.dormant import ReadSpace, dormant_figures, weight_space
from mechprobe.causal.checks.manifold import MIN_ROWS, Manifold, edited_acts, fit_manifold
from mechprobe.causal.directions import Direction, SpanActs
from mechprobe.causal.places.sites import SiteActs
from mechprobe.causal.verdicts.strata import Baseline
from mechprobe.errors import HookError, ShapeError
from mechprobe.models.subject import Subject


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SiteChecks:
    """What is known of a site's natural activations and of what reads them."""

    manifold: Manifold | None
    """None where there are too few natural rows to set a limit, or the site is more than one token."""
    space: ReadSpace | None
    """None where the site is not in the residual stream."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivationChecks:
    """Figures of one direction on one indicator's cases; NaN where the site allows none."""

    off_manifold: float
    """Largest share of edited rows beyond what 99 % of natural rows keep to, over distance, residual and norm."""
    is_off_manifold: bool
    kept_plane: float
    """Share of the effect that an interchange in the plane of its read and unread parts keeps."""
    kept_patch: float
    """Share of the effect that patching the whole activation keeps."""
    illusion_suspected: bool
    """An effect that disappears in a patch which contains the direction (Makelov et al., arXiv 2311.17030)."""


def site_checks(subject: Subject, spans: SpanActs, *, seed: int = 0) -> SiteChecks:
    """Describe a site from labelled spans of the fit split."""
    # Where the site is all tokens of a span, the rows are means, and no single token looks like one.
    is_token = spans.site.position != "span_all"
    enough = is_token and len(spans.acts) >= MIN_ROWS and bool(spans.acts.isfinite().all())
    try:
        space = weight_space(subject, spans.site)
    except (HookError, ShapeError):
        space = None
    return SiteChecks(manifold=fit_manifold(spans.acts, seed=seed) if enough else None, space=space)


def check_directions(
    subject: Subject,
    cases: Sequence[Case],
    acts: SiteActs,
    directions: Sequence[Direction],
    checks: SiteChecks,
    unedited: Baseline,
    outcome: str,
) -> dict[str, ActivationChecks]:
    """Name of each direction -> its figures."""
    found: dict[str, ActivationChecks] = {}
    for direction in directions:
        share, is_off = _off_manifold(acts, direction, checks.manifold)
        kept_plane = kept_patch = math.nan
        is_illusion = False
        if checks.space is not None and math.isfinite(unedited.scale):
            figures = dormant_figures(
                subject, cases, acts, direction, checks.space, unedited, outcome
            )
            kept_plane, kept_patch = figures.kept_plane, figures.kept_patch
            is_illusion = figures.illusion_suspected
        found[direction.name] = ActivationChecks(
            off_manifold=share,
            is_off_manifold=is_off,
            kept_plane=kept_plane,
            kept_patch=kept_patch,
            illusion_suspected=is_illusion,
        )
    return found


def _off_manifold(
    acts: SiteActs, direction: Direction, manifold: Manifold | None
) -> tuple[float, bool]:
    if manifold is None:
        return math.nan, False
    figures = manifold.compare(edited_acts(acts, direction, strengths=())["interchange"])
    shares = (figures.mahalanobis_beyond, figures.residual_beyond, figures.norm_beyond)
    return max(shares), figures.is_off_manifold
