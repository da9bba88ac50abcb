"""Made-up tables of what detectors go by: words, features, falsifiers, directions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.reports.synthetic_causes import HOOKS, NAN

DRIVERS = (("quietly", 0.3, 1, 0.8), ("records", 0.2, 1, 0.4), ("never", 0.1, -1, 0.3))


def drivers() -> list[dict[str, Any]]:
    """Words that drive scorers."""
    return [
        {
            "scorer": scorer,
            "hook_name": hook,
            "indicator": "misaligned",
            "rank": rank,
            "name": name if not hook else f"{rank} ({name})",
            "shap": share,
            "share": share,
            "direction": direction,
            "auroc": auroc,
            "n_positive": 9,
            "n_negative": 12,
        }
        for scorer, hook in (("tfidf", ""), ("sae_k_sparse", HOOKS[-1]))
        for rank, (name, share, direction, auroc) in enumerate(DRIVERS, start=1)
    ]


def driver_checks() -> list[dict[str, Any]]:
    """Whether their weights push the right way."""
    return [
        {
            "scorer": scorer,
            "hook_name": hook,
            "indicator": "misaligned",
            "n_effective": 14.0,
            "agreement": 0.61,
            "same_direction": 0.8,
        }
        for scorer, hook in (("tfidf", ""), ("sae_k_sparse", HOOKS[-1]))
    ]


def best_features(slugs: Sequence[str]) -> list[dict[str, Any]]:
    """The best single feature beside luck."""
    return [
        {
            "indicator": slug,
            "feature": 10 + at,
            "auroc": 0.7 if at else 0.31,
            "by_luck": 0.64,
            "p_value": 0.002,
            "p_holm": 0.006,
            "n_pos": 300,
            "n_neg": 4000,
        }
        for at, slug in enumerate(slugs)
    ]


def grains() -> list[dict[str, Any]]:
    """One probe, five or eighteen."""
    return [
        {
            "scorer": "dense_logistic",
            "hook_name": HOOKS[0],
            "view": "full",
            "fusion": "noisy_or",
            "grain": grain,
            "n_probes": n_probes,
            "unit": "turn",
            "fpr_target": target,
            "tpr": 0.1,
            "auroc": 0.66 + 0.01 * at,
            "auroc_low": 0.6,
            "auroc_high": 0.72,
            "minus_fine": 0.01 * at,
            "minus_fine_low": 0.01 * at - 0.02,
            "minus_fine_high": 0.01 * at + 0.02,
        }
        for at, (grain, n_probes) in enumerate((("fine", 18), ("coarse", 5), ("single", 1)))
        for target in (0.01, 0.05)
    ]


def falsifiers(slugs: Sequence[str]) -> list[dict[str, Any]]:
    """What words alone explain."""
    readings = ("survives", "fails", "too few", "no signal", "unclear")
    return [
        {
            "indicator": slug,
            "scorer": scorer,
            "hook_name": HOOKS[0],
            "falsifier": falsifier,
            "variant": variant,
            "figure": NAN if reading == "too few" else 0.2 + 0.1 * at,
            "low": NAN if reading == "too few" else 0.1,
            "high": NAN if reading == "too few" else 0.9,
            "control": NAN if reading == "too few" else 0.03,
            "n_pos": 30,
            "reading": reading,
        }
        for scorer in ("dense_logistic", "sae_k_sparse")
        for number, slug in enumerate(slugs)
        for at, (falsifier, variant) in enumerate(
            (("injection", "append"), ("paraphrase", "world"), ("masking", ""))
        )
        for reading in [readings[(number + at) % len(readings)]]
    ]


def geometry(slugs: Sequence[str], rng: np.random.Generator) -> dict[str, Any]:
    """Cosines of the probes."""
    found: dict[str, Any] = {}
    for scorer, shared in (("dense_logistic", 1.0), ("random_direction", 0.0)):
        X = rng.normal(size=(len(slugs), 64)) + shared * rng.normal(size=64)
        X /= np.linalg.norm(X, axis=1, keepdims=True)
        found[f"{HOOKS[0]}/{scorer}"] = {
            "raw": {
                "indicators": list(slugs),
                "cosines": (X @ X.T).tolist(),
                "eigenvalues": [1.0] * len(slugs),
                "participation_ratio": 3.1 if shared else 15.0,
                "shared_share": 0.55 if shared else 0.1,
                "loadings": [0.7] * len(slugs),
                "mean_cosine_within": 0.61 if shared else 0.01,
                "mean_cosine_across": 0.5 if shared else None,
            }
        }
    return found
