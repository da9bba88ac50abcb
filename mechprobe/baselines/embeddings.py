"""Baselines that read embeddings of whole texts: of another model, or the mean of the token embeddings.

The sentence embedding says how far a general reader of meaning gets without the model under study. The token embeddings
are what that model starts from: a probe of a deeper layer that does not beat them has found nothing that it computes.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from mechprobe.baselines.fold import Baseline, BaselineFold, FoldRows, fit_and_score
from mechprobe.baselines.passages import Passages
from mechprobe.errors import ShapeError
from mechprobe.probes.estimators import Estimator
from mechprobe.probes.solving.logistic import L2_STRENGTHS, fit_logistic

Embed: TypeAlias = Callable[[Sequence[str]], Float[np.ndarray, "text d"]]

SENTENCE_EMBEDDING = "sentence_embedding"
"""Scorer: logistic regression on a sentence embedding of the text."""
EMBEDDING_LAYER = "embedding_layer"
"""Scorer: logistic regression on the token embeddings that the model starts from."""

_LOGISTIC = Estimator(name="embedding", reads="acts", fit=fit_logistic, strengths=L2_STRENGTHS)


def embedding_baseline(embed: Embed, name: str = SENTENCE_EMBEDDING) -> Baseline:
    """Logistic regression on an embedding of the text; a text is embedded once, in however many folds it occurs.

    Args:
        embed: texts to rows of one width, the same row for the same text.
    """
    seen: dict[str, np.ndarray] = {}

    def embedded(units: Passages) -> Float[np.ndarray, "text d"]:
        new = [text for text in dict.fromkeys(units.texts) if text not in seen]
        if new:
            rows = embed(new)
            if rows.ndim != 2 or len(rows) != len(new):
                raise ShapeError(
                    f"the embedding of {len(new)} texts has shape {rows.shape}; it must have one row a text."
                )
            seen.update(zip(new, rows, strict=True))
        width = len(next(iter(seen.values()), ()))
        return np.array([seen[text] for text in units.texts], dtype=np.float32).reshape(-1, width)

    def make(fold: BaselineFold) -> FoldRows:
        width = embedded(fold.fit).shape[1]
        return fold.split(embedded, tuple(f"{name} {at}" for at in range(width)))

    def score(fold: BaselineFold, *, seed: int) -> Float[np.ndarray, "text indicator"]:
        return fit_and_score(_LOGISTIC, fold, fold.rows(name, make), seed=seed)

    return Baseline(
        name=name, about=f"logistic regression on the {name.replace('_', ' ')}", score=score
    )
