"""Gradient-boosted trees on activations or features: what a probe gains where a direction is not enough.

The only door to LightGBM. One fit for each indicator; the number of rounds is what is chosen on rows that were not
fitted on. One thread and a fixed order of sums, so that the same rows give the same trees.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float32, Integer

from mechprobe.errors import ConfigError
from mechprobe.probes.linear import check_width
from mechprobe.probes.matrix import Matrix, is_sparse
from mechprobe.probes.rows import LEFT_OUT, POSITIVE, LabelledRows, check_finite
from mechprobe.probes.stored import Stored
from mechprobe.probes.weights import ClassWeight, row_weights

N_ROUNDS = (8.0, 16.0, 32.0, 64.0, 128.0)
"""Candidates for the rounds of boosting, fewest first."""

_SETTINGS: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.1,
    "num_leaves": 15,
    "min_data_in_leaf": 10,
    "max_bin": 63,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BoostedProbe:
    """Fitted trees, kept as LightGBM's own text."""

    model: str
    width: int
    """Columns of the rows that it reads."""
    settings: Mapping[str, float]
    kind: str = "boosted"

    def score(self, X: Matrix) -> Float32[np.ndarray, "tok"]:
        """Log-odds for each row.

        Raises:
            ShapeError: the rows are not as wide as those the probe was fitted on.
            LabelError: a value is not finite; trees would send it somewhere without a word.
        """
        check_width(X, self.width, "a boosted probe")
        check_finite(X)
        booster = _booster(self.model)
        return booster.predict(X, raw_score=True, num_threads=1).astype(np.float32)

    def contributions(self, X: Matrix) -> Matrix:
        """What each column adds to each row's log-odds, exactly (TreeSHAP, arXiv 1802.03888); the last column holds
        what all rows have in common.

        Raises:
            ShapeError, LabelError: see `score`.
        """
        check_width(X, self.width, "a boosted probe")
        check_finite(X)
        return _booster(self.model).predict(X, pred_contrib=True, num_threads=1)

    @property
    def features(self) -> Integer[np.ndarray, "k"]:
        """Columns that a tree splits on."""
        return np.flatnonzero(_booster(self.model).feature_importance("split"))

    @property
    def gain(self) -> np.ndarray:
        """How much the splits on each column lowered the loss, in nats summed over rows."""
        return _booster(self.model).feature_importance("gain")

    def stored(self) -> Stored:
        """The probe in parts; the text as bytes, since it is longer than an index should be."""
        return Stored(
            form="boosted",
            kind=self.kind,
            settings=self.settings,
            tensors={"model": np.frombuffer(self.model.encode("utf-8"), dtype=np.uint8)},
            text={"width": self.width},
        )

    @staticmethod
    def restored(parts: Stored) -> "BoostedProbe":
        """The probe put together again."""
        return BoostedProbe(
            model=parts.tensors["model"].tobytes().decode("utf-8"),
            width=parts.text["width"],
            settings=parts.settings,
            kind=parts.kind,
        )


def fit_boosted(
    rows: LabelledRows,
    strengths: Sequence[float] = (32.0,),
    *,
    seed: int = 0,
    class_weight: ClassWeight = None,
) -> list[tuple[BoostedProbe, ...]]:
    """For each number of rounds, one probe for each indicator: beginnings of one fit.

    Args:
        strengths: numbers of rounds, whole and at least 1.
        seed: of LightGBM; nothing is sampled with these settings.
        class_weight: "balanced" lets both classes count the same in sum.

    Raises:
        ConfigError: a number of rounds is not whole or not positive.
    """
    if not len(strengths) or min(strengths) < 1 or any(n != int(n) for n in strengths):
        raise ConfigError(
            f"n_rounds candidates are {tuple(strengths)}; give whole numbers of at least 1, such as 32."
        )
    # LightGBM takes seconds to import, and most probes do without it.
    import lightgbm

    settings = {**_SETTINGS, "seed": seed}
    X = rows.X if is_sparse(rows.X) else np.ascontiguousarray(rows.X)
    # Columns are cut into bins once, over all rows, for all indicators.
    binned = lightgbm.Dataset(X, params=settings, free_raw_data=False).construct()
    weights = row_weights(rows.labels, class_weight)
    found: list[list[BoostedProbe]] = [[] for _ in strengths]
    for at in range(len(rows.indicators)):
        used = np.flatnonzero(rows.labels[:, at] != LEFT_OUT)
        part = binned.subset(used.tolist(), params=settings).construct()
        part.set_label((rows.labels[used, at] == POSITIVE).astype(np.float32))
        part.set_weight(weights[used, at])
        booster = lightgbm.train(settings, part, num_boost_round=int(max(strengths)))
        for of_rounds, n_rounds in zip(found, strengths, strict=True):
            of_rounds.append(
                BoostedProbe(
                    model=booster.model_to_string(num_iteration=int(n_rounds)),
                    width=X.shape[1],
                    settings={"n_rounds": float(n_rounds)},
                )
            )
    return [tuple(probes) for probes in found]


@lru_cache(maxsize=128)
def _booster(model: str) -> Any:
    """The trees of a text; reading it takes longer than scoring a row."""
    import lightgbm

    return lightgbm.Booster(model_str=model)
