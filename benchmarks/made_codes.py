"""Made-up sparse codes that are as hard as those of a trained SAE: correlated and heavy-tailed."""

import numpy as np
import scipy.sparse as sp

from mechprobe.probes.matrix import size_of

_RANK = 48
"""Directions that the features share: far fewer than features, as in a residual stream of low rank."""
_MEMORY = 0.9
"""How much of a token's state stays at the next token."""


def made_codes(n_tokens: int, d_sae: int, k: int, seed: int = 0) -> sp.csr_matrix:
    """The k largest of d_sae readings of one low-rank state for each token, others zero."""
    rng = np.random.default_rng(seed)
    dictionary = rng.normal(size=(d_sae, _RANK)).astype(np.float32)
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    size = rng.lognormal(sigma=0.7, size=d_sae).astype(np.float32)
    states = _states(rng, n_tokens)
    blocks = [
        _largest(states[at : at + 4096] @ dictionary.T, k, size) for at in range(0, n_tokens, 4096)
    ]
    return sp.csr_matrix(sp.vstack(blocks))


def made_labels(codes: sp.csr_matrix, n_indicators: int, seed: int = 1) -> np.ndarray:
    """Rare labels (1 to 8 %) that a few features raise, with noise that no probe can explain."""
    rng = np.random.default_rng(seed)
    spread = np.sqrt(np.asarray(codes.multiply(codes).mean(axis=0)).ravel()) + 1e-6
    labels = []
    for share in rng.uniform(0.01, 0.08, size=n_indicators):
        weight = np.zeros(size_of(codes)[1], dtype=np.float32)
        chosen = rng.choice(len(weight), 40, replace=False)
        weight[chosen] = rng.normal(size=40) / spread[chosen]
        logits = codes @ weight
        logits = 2 * logits / logits.std() + rng.logistic(size=len(logits))
        labels.append(logits > np.quantile(logits, 1 - share))
    return np.stack(labels, axis=1).astype(np.int8)


def _states(rng: np.random.Generator, n_tokens: int) -> np.ndarray:
    """A slowly changing state with directions of falling spread and heavy tails."""
    steps = rng.standard_t(4, size=(n_tokens, _RANK)).astype(np.float32)
    for at in range(1, n_tokens):
        steps[at] += _MEMORY * steps[at - 1]
    return steps * (np.arange(1, _RANK + 1, dtype=np.float32) ** -0.5)


def _largest(readings: np.ndarray, k: int, size: np.ndarray) -> sp.csr_matrix:
    chosen = np.argpartition(-readings, k, axis=1)[:, :k]
    values = np.maximum(np.take_along_axis(readings, chosen, axis=1), 0) * size[chosen]
    n_tokens, d_sae = readings.shape
    start = np.arange(0, n_tokens * k + 1, k)
    codes = sp.csr_matrix((values.ravel(), chosen.ravel(), start), shape=(n_tokens, d_sae))
    codes.eliminate_zeros()
    codes.sort_indices()
    return codes
