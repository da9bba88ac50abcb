"""Is the concept still readable after its direction is taken out?

An ablation that moved the coordinate proves little if a probe that is fitted anew still finds the concept: it lives in
more dimensions, and what the model reads may be among them (CAUSAL.md section 3.4 and its last section; iterative
null-space projection, Ravfogel et al., arXiv 2004.07667).

A direction that was fitted on the spans of both halves leaves the halves with small opposite mean differences, so that an
AUROC after its removal may lie somewhat below .5.

Two readers are fitted anew. The linear one answers as in that literature, but note what it must say: once the exact
difference of class means is out, no linear reader can do better than chance on those rows (Belrose et al., arXiv
2306.03819, theorem 3.1). The quadratic one, a linear probe on products of the leading principal components, also sees a
concept that is written differently in different contexts.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor

from mechprobe.causal.checks.span_halves import SpanHalves, halve
from mechprobe.causal.directions import SpanActs
from mechprobe.causal.edits.erasure import fit_eraser
from mechprobe.errors import ShapeError
from mechprobe.evaluation.bootstrap import Interval, auroc_interval
from mechprobe.probes.estimators import find_estimator, fit_selected
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.rows import LabelledRows

PROBE = "dense_logistic"
MAX_DIRECTIONS = 4
N_COMPONENTS = 12
"""Principal components whose products the quadratic reader sees: 12 components, 90 columns."""

Erase = Callable[[Float[Tensor, "row d"]], Float[Tensor, "row d"]]
FitErasure = Callable[[Float[Tensor, "row d"], Bool[Tensor, "row"]], Erase]
"""Fits an eraser, such as LEACE, on activations and labels of the half that probes are fitted on."""


REMAINS_COLUMNS = (
    *("indicator", "removal", "reader", "auroc", "low", "high"),
    *("chance_low", "chance_high", "n_pos", "n_neg"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Readable:
    """How well freshly fitted probes find the concept on held-out spans."""

    removal: str
    """"none", "1 direction", "2 directions", ... or the name of an eraser."""
    linear: Interval
    quadratic: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Remains:
    """What is left of a concept after removals."""

    indicator: str
    before: Readable
    after: tuple[Readable, ...]
    """After the direction, then after further directions that the fresh linear probe found."""
    erased: tuple[Readable, ...]
    """After each eraser, fitted on the same half as the probes."""
    dims_to_chance: int | None
    """Directions taken out until the fresh linear probe's interval reaches .5; None if those tried were too few."""
    chance_low: float
    """AUROC that scores without knowledge stay above, on as many spans, with chance .975."""
    chance_high: float
    n_pos: int
    """Held-out spans that hold the indicator."""
    n_neg: int

    @property
    def lives_in_more(self) -> bool:
        """Whether a fresh linear probe still finds the concept after the direction is taken out."""
        return self.after[0].linear.low > 0.5

    @property
    def is_hidden_from_linear(self) -> bool:
        """Whether only the quadratic reader still finds it: the concept is written differently in different contexts."""
        return not self.lives_in_more and self.after[0].quadratic.low > 0.5


def readable_after_removal(
    spans: SpanActs,
    indicator: str,
    direction: Float[Tensor, "d"] | None,
    *,
    groups: Sequence[str] | None = None,
    erasers: Mapping[str, FitErasure] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> Remains:
    """Fit probes on half of the spans before and after removals, and read the other half.

    Args:
        direction: projected out, which to a fresh probe is the same as mean ablation; None for the difference of means
            of the half that probes are fitted on, which is free of the bias that the module names.
        groups: the transcript of each span of `spans`, all of whose spans go to the same half and are resampled
            together; None where no transcript has two spans of an indicator.
        erasers: name -> how to fit an eraser, read beside the directions; None for LEACE.

    Raises:
        DataError: a half lacks spans of a class.
        ShapeError: the direction is zero or not as wide as the site, or there is not one group for each span.
    """
    halves = halve(spans, indicator, groups=groups, seed=seed)
    if direction is None:
        direction = halves.difference_of_means()
    if len(direction) != spans.acts.shape[-1] or not float(direction.norm()) > 0:
        raise ShapeError(
            f"the direction has {len(direction)} numbers and length {float(direction.norm())}; {spans.site.hook_name} "
            f"has {spans.acts.shape[-1]} and the length must be above 0."
        )
    before, _probe = _read(halves, "none", lambda acts: acts, n_boot, seed)
    after = _read_one_after_another(halves, direction / direction.norm(), n_boot, seed)
    fits = {"leace": fit_eraser} if erasers is None else erasers
    erased = [
        _read(halves, name, fit(halves.fit_acts, halves.fit_present), n_boot, seed)[0]
        for name, fit in fits.items()
    ]
    reached = [number for number, found in enumerate(after, 1) if found.linear.low <= 0.5]
    n_pos = int(halves.held_present.sum())
    n_neg = len(halves.held_present) - n_pos
    spread = 1.96 * math.sqrt((n_pos + n_neg + 1) / (12 * n_pos * n_neg))
    return Remains(
        indicator=indicator,
        before=before,
        after=after,
        erased=tuple(erased),
        dims_to_chance=reached[0] if reached else None,
        chance_low=0.5 - spread,
        chance_high=0.5 + spread,
        n_pos=n_pos,
        n_neg=n_neg,
    )


def remains_rows(remains: Remains) -> list[dict[str, object]]:
    """A table row for each removal and reader."""
    return [
        {
            "indicator": remains.indicator,
            "removal": found.removal,
            "reader": reader,
            "auroc": interval.value,
            "low": interval.low,
            "high": interval.high,
            "chance_low": remains.chance_low,
            "chance_high": remains.chance_high,
            "n_pos": remains.n_pos,
            "n_neg": remains.n_neg,
        }
        for found in (remains.before, *remains.after, *remains.erased)
        for reader, interval in (("linear", found.linear), ("quadratic", found.quadratic))
    ]


def _read_one_after_another(
    halves: SpanHalves, direction: Float[Tensor, "d"], n_boot: int, seed: int
) -> tuple[Readable, ...]:
    """Take out the direction, then what the fresh linear probe finds, and so on."""
    removed, found = [direction], list[Readable]()
    for number in range(1, MAX_DIRECTIONS + 1):
        name = "1 direction" if number == 1 else f"{number} directions"
        readable, probe = _read(halves, name, _projection(removed), n_boot, seed)
        found.append(readable)
        removed.append(torch.from_numpy(probe.raw_direction()))
    return tuple(found)


def _read(
    halves: SpanHalves, name: str, erase: Erase, n_boot: int, seed: int
) -> tuple[Readable, LinearProbe]:
    """Fit both readers on what is left, and read the held-out half; also the linear probe."""
    fit, held = erase(halves.fit_acts).numpy(), erase(halves.held_acts).numpy()
    probe, linear = _fresh(halves, fit, held, n_boot, seed)
    _probe, quadratic = _fresh(halves, *_products(fit, held), n_boot, seed)
    return Readable(removal=name, linear=linear, quadratic=quadratic), probe


def _fresh(
    halves: SpanHalves, fit: np.ndarray, held: np.ndarray, n_boot: int, seed: int
) -> tuple[LinearProbe, Interval]:
    labels = halves.fit_present.numpy().astype(np.int8)[:, None]
    rows = LabelledRows(X=np.ascontiguousarray(fit), labels=labels, indicators=("concept",))
    [probe] = fit_selected(find_estimator(PROBE), rows, None, seed=seed)
    units = halves.held_units(probe.score(np.ascontiguousarray(held)))
    return probe, auroc_interval(units, n_boot=n_boot, seed=seed)


def _products(fit: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leading principal components and their products, scaled as in the fitted half."""
    mean = fit.mean(0)
    _left, sizes, directions = np.linalg.svd(fit - mean, full_matrices=False)
    n_kept = min(N_COMPONENTS, int((sizes > 1e-5 * max(sizes[0], 1e-30)).sum()))
    scale = np.maximum(sizes[:n_kept], 1e-30) / math.sqrt(len(fit))
    first, second = np.triu_indices(n_kept)

    def expand(rows: np.ndarray) -> np.ndarray:
        inside = (rows - mean) @ directions[:n_kept].T / scale
        return np.concatenate([inside, inside[:, first] * inside[:, second]], axis=1)

    return expand(fit).astype(np.float32), expand(held).astype(np.float32)


def _projection(directions: Sequence[Float[Tensor, "d"]]) -> Erase:
    """Project out the span of directions, whether or not they are orthogonal."""
    basis = torch.linalg.qr(torch.stack(list(directions), 1).double()).Q

    def erase(acts: Float[Tensor, "row d"]) -> Float[Tensor, "row d"]:
        inside = einsum(acts.double(), basis, "row d, d k -> row k")
        return (acts.double() - einsum(inside, basis, "row k, d k -> row d")).float()

    return erase
