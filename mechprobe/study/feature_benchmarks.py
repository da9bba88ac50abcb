"""SAEBench's probing and perturbation scores on labelled indicators: are the features of an indicator its own?

After SAEBench (arXiv 2503.09532): sparse probing, targeted probe perturbation (TPP) and spurious correlation removal (SCR,
arXiv 2411.18895). A number says little alone; each is asked for the SAE and again for a control, such as
`random_decoder_sae` on the same rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float, Int

from mechprobe.errors import LabelError
from mechprobe.probes.estimators import auroc_by_column
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.rows import LabelledRows
from mechprobe.probes.solving.logistic import fit_logistic
from mechprobe.saes.encoding import encode_rows
from mechprobe.saes.lens import Sae, decoder_rows


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelledActs:
    """Activations with whether each row holds each indicator."""

    acts: Float[np.ndarray, "tok d_in"]
    is_positive: Bool[np.ndarray, "tok indicator"]
    indicators: tuple[str, ...]

    def __post_init__(self) -> None:
        counts = self.is_positive.sum(axis=0)
        for name, count in zip(self.indicators, counts.tolist(), strict=True):
            if not 0 < count < len(self.acts):
                raise LabelError(
                    f"indicator {name!r} has {count} positive rows of {len(self.acts)}; both classes are needed."
                )


def sparse_probing(
    sae: Sae, fit: LabelledActs, test: LabelledActs, ks: Sequence[int] = (1, 2, 5)
) -> dict[str, dict[int, float]]:
    """AUROC on test rows of a logistic probe on the k features of largest difference of means, for each indicator."""
    fitting, testing = (encode_rows(sae, torch.from_numpy(side.acts)) for side in (fit, test))
    found: dict[str, dict[int, float]] = {}
    for at, name in enumerate(fit.indicators):
        y = fit.is_positive[:, at]
        order = np.argsort(-np.abs(_difference(fitting, y)), kind="stable")
        found[name] = {}
        for k in ks:
            probe = _probe(fitting[:, order[:k]].toarray(), y, name)
            scores = testing[:, order[:k]].toarray() @ probe.weight
            found[name][k] = float(auroc_by_column(scores[:, None], test.is_positive[:, at])[0])
    return found


def targeted_perturbation(
    sae: Sae, fit: LabelledActs, test: LabelledActs, n: int = 5
) -> dict[str, float]:
    """TPP: how much more ablating an indicator's n features costs its own probe's accuracy than the others' on average."""
    probes = [
        _probe(fit.acts, fit.is_positive[:, at], name) for at, name in enumerate(fit.indicators)
    ]
    clean = np.array(
        [_accuracy(probes[at], test.acts, test.is_positive[:, at]) for at in range(len(probes))]
    )
    found: dict[str, float] = {}
    for at, name in enumerate(fit.indicators):
        changed = ablated(sae, test.acts, features_of(sae, fit, at, probes[at], n))
        after = np.array(
            [_accuracy(p, changed, test.is_positive[:, other]) for other, p in enumerate(probes)]
        )
        drops = clean - after
        others = np.delete(drops, at)
        found[name] = float(drops[at] - (others.mean() if len(others) else 0.0))
    return found


def spurious_removal(
    sae: Sae, biased: LabelledActs, test: LabelledActs, *, wanted: int, spurious: int, n: int = 5
) -> float:
    """SCR: share of the accuracy that a probe loses by a spurious indicator which ablating its n features gives back.

    The probe of the wanted indicator is fitted on rows where both go together; the best that could be is the probe
    fitted on the test's own kind of rows. 1 gives all back, 0 nothing, below 0 it got worse.

    Args:
        biased: rows on which wanted and spurious are both present or both absent.
        test: rows on which they are independent; its first half fits the best probe, its second is scored.
    """
    probe = _probe(biased.acts, biased.is_positive[:, wanted], biased.indicators[wanted])
    half = len(test.acts) // 2
    y = test.is_positive[:, wanted]
    best = _probe(test.acts[:half], y[:half], test.indicators[wanted])
    reader = _probe(test.acts[:half], test.is_positive[:half, spurious], test.indicators[spurious])
    first = LabelledActs(
        acts=test.acts[:half], is_positive=test.is_positive[:half], indicators=test.indicators
    )
    changed = ablated(sae, test.acts[half:], features_of(sae, first, spurious, reader, n))
    before, after, bound = (
        _accuracy(one, acts, y[half:])
        for one, acts in ((probe, test.acts[half:]), (probe, changed), (best, test.acts[half:]))
    )
    return (after - before) / (bound - before) if bound > before else float("nan")


def features_of(
    sae: Sae, rows: LabelledActs, indicator: int, probe: LinearProbe, n: int
) -> Int[np.ndarray, "chosen"]:
    """The n features that carry most of a probe's difference between the classes: mean difference times effect on it."""
    difference = _difference(
        encode_rows(sae, torch.from_numpy(rows.acts)), rows.is_positive[:, indicator]
    )
    effect = decoder_rows(sae).detach().cpu().numpy() @ probe.weight
    return np.argsort(-(difference * effect), kind="stable")[:n]


def ablated(
    sae: Sae, acts: Float[np.ndarray, "tok d_in"], features: Int[np.ndarray, "chosen"]
) -> Float[np.ndarray, "tok d_in"]:
    """The activations without what some features write; what the SAE leaves out stays."""
    active = encode_rows(sae, torch.from_numpy(acts))[:, features].toarray()
    return acts - active @ decoder_rows(sae).detach().cpu().numpy()[features]


def _difference(
    feature_acts: sp.csr_matrix, y: Bool[np.ndarray, "tok"]
) -> Float[np.ndarray, "d_sae"]:
    """Mean activation on positives minus that on negatives."""
    means = [
        np.asarray(feature_acts[np.flatnonzero(side)].mean(axis=0)).ravel() for side in (y, ~y)
    ]
    return means[0] - means[1]


def _probe(X: np.ndarray, y: Bool[np.ndarray, "tok"], indicator: str) -> LinearProbe:
    rows = LabelledRows(
        X=np.asarray(X, dtype=np.float32),
        labels=y.astype(np.int8)[:, None],
        indicators=(indicator,),
    )
    return fit_logistic(rows, class_weight="balanced")[0][0]


def _accuracy(probe: LinearProbe, acts: np.ndarray, y: Bool[np.ndarray, "tok"]) -> float:
    """Mean of the shares of positives and of negatives that are told rightly."""
    fired = probe.score(acts.astype(np.float32)) > 0
    return float((fired[y].mean() + (~fired[~y]).mean()) / 2)
