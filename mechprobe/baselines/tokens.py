"""Scores from the identity of the token at a position: does a probe read more than the token it stands on?"""

import numpy as np
from jaxtyping import Float, Int, Int8

from mechprobe.probes.rows import NEGATIVE, POSITIVE


def token_identity_scores(
    fit_ids: Int[np.ndarray, "tok"],
    fit_labels: Int8[np.ndarray, "tok indicator"],
    ids: Int[np.ndarray, "other"],
    *,
    smoothing: float = 1.0,
) -> Float[np.ndarray, "other indicator"]:
    """Log-odds of the classes given the token, from counts on the fit rows; 0 for a token not seen there.

    Args:
        smoothing: added to the counts of both classes, shared out in the proportion of the classes.
    """
    n_ids = 1 + int(max(fit_ids.max(initial=-1), ids.max(initial=-1)))
    scores = np.zeros((len(ids), fit_labels.shape[1]))
    for at, labels in enumerate(fit_labels.T):
        positive = np.bincount(fit_ids[labels == POSITIVE], minlength=n_ids)
        negative = np.bincount(fit_ids[labels == NEGATIVE], minlength=n_ids)
        base_pos, base_neg = max(1, positive.sum()), max(1, negative.sum())
        rate_pos = (positive + smoothing * base_pos / (base_pos + base_neg)) / base_pos
        rate_neg = (negative + smoothing * base_neg / (base_pos + base_neg)) / base_neg
        scores[:, at] = np.log(rate_pos / rate_neg)[ids]
    return scores
