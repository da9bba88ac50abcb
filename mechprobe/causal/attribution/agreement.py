"""May the linear picture be believed? The top features and as many random ones are patched for real and compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import rankdata

from mechprobe.causal.attribution.exact import exact_effects
from mechprobe.causal.attribution.methods import Explained
from mechprobe.causal.attribution.runs import Runs
from mechprobe.causal.effects import BATCH_TOKENS
from mechprobe.errors import ConfigError
from mechprobe.models.subject import Subject
from mechprobe.saes.lens import Sae

ERROR, WHOLE = "error term", "all together"
TOP, RANDOM = "top", "random"
_ROUNDING = 1e-5
"""Share of the largest effect below which a number is rounding and has no sign."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Agreement:
    """Contributions beside exact effects, mean over the runs."""

    table: pd.DataFrame
    """Columns name, kind ("top", "random", ERROR, WHOLE), linear, exact; in units of the outcome."""
    spearman: float
    """Rank correlation of contribution and exact effect over the top and the random features; NaN: not to be told."""
    sign_agreement: float
    """Share of those features whose contribution and exact effect have one sign; NaN: none has any effect."""
    spearman_top: float
    """The same among the top features alone, where it is harder."""
    sign_agreement_top: float

    def line(self) -> str:
        """What is printed with every result."""
        n_top, n_random = (
            int(np.count_nonzero(self.table["kind"] == kind)) for kind in (TOP, RANDOM)
        )
        return (
            f"checked by exact patching of {n_top} top and {n_random} random features: rank "
            f"correlation {self.spearman:.2f}, same sign {self.sign_agreement:.2f} (top alone {self.spearman_top:.2f} "
            f"and {self.sign_agreement_top:.2f})"
        )


def check_against_patching(
    subject: Subject,
    runs: Runs,
    sae: Sae,
    explained: Explained,
    *,
    m: int = 10,
    seed: int = 0,
    batch_tokens: int = BATCH_TOKENS,
) -> Agreement:
    """Patch the m features of largest mean contribution and m random others that are active somewhere.

    Raises:
        ConfigError: m is less than 1.
    """
    if m < 1:
        raise ConfigError(f"m is {m}; at least 1 feature is to be patched (10 is usual).")
    by_case = explained.contributions.by_case(len(runs))
    mean = np.asarray(by_case.features.mean(axis=0)).ravel()
    top, random = chosen_features(mean, changed_features(explained), m, seed)
    features = np.concatenate([top, random])
    found = exact_effects(subject, runs, sae, explained, features, batch_tokens=batch_tokens)
    linear, exact = mean[features], found.of_features.mean(1)
    table = pd.DataFrame(
        {
            "name": [*map(str, features.tolist()), ERROR, WHOLE],
            "kind": [TOP] * len(top) + [RANDOM] * len(random) + [ERROR, WHOLE],
            "linear": [*linear, by_case.error.mean(), by_case.total.mean()],
            "exact": [*exact, found.error.mean(), found.whole.mean()],
        }
    )
    n = len(top)
    return Agreement(
        table=table,
        spearman=rank_correlation(linear, exact),
        sign_agreement=sign_agreement(linear, exact),
        spearman_top=rank_correlation(linear[:n], exact[:n]),
        sign_agreement_top=sign_agreement(linear[:n], exact[:n]),
    )


def changed_features(explained: Explained) -> Int[np.ndarray, "feature"]:
    """Features that differ from the reference in some run: setting any other does nothing."""
    change = explained.own.minus(explained.reference).features
    change.eliminate_zeros()
    return np.unique(change.indices).astype(np.int64)


def chosen_features(
    mean: Float[np.ndarray, "d_sae"], changed: Int[np.ndarray, "feature"], m: int, seed: int
) -> tuple[Int[np.ndarray, "top"], Int[np.ndarray, "random"]]:
    """The m largest by size, largest first, and m of the others at random; fewer where there are fewer."""
    order = changed[np.argsort(-np.abs(mean[changed]), kind="stable")]
    top, others = order[:m], order[m:]
    n = min(m, len(others))
    return top, np.random.default_rng(seed).choice(others, size=n, replace=False)


def rank_correlation(
    first: Float[np.ndarray, "n"] | Sequence[float],
    second: Float[np.ndarray, "n"] | Sequence[float],
) -> float:
    """Spearman's; NaN with fewer than three numbers or where one side has no order."""
    ranks = np.stack([rankdata(first), rankdata(second)])
    if ranks.shape[1] < 3 or (np.ptp(ranks, axis=1) == 0).any():
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])


def sign_agreement(linear: Float[np.ndarray, "n"], exact: Float[np.ndarray, "n"]) -> float:
    """Share of one sign among the pairs in which either number is more than rounding; NaN where there is none."""
    signs = [np.where(np.abs(v) > _floor(v), np.sign(v), 0.0) for v in (linear, exact)]
    counted = (signs[0] != 0) | (signs[1] != 0)
    return float((signs[0] == signs[1])[counted].mean()) if counted.any() else float("nan")


def _floor(values: Float[np.ndarray, "n"]) -> float:
    return _ROUNDING * float(np.abs(values).max(initial=0.0))
