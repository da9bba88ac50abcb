"""Fitting 18 logistic probes: all together by batched L-BFGS against scikit-learn, one after another."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from benchmarks.timing import Row, compare
from mechprobe.probes.estimators import scores_of
from mechprobe.probes.logistic import fit_logistic
from mechprobe.probes.rows import LabelledRows

N_ROWS, WIDTH, N_INDICATORS = 20_000, 512, 18


def measure() -> Row:
    """Both standardise in float32 and stop at a gradient of 1e-4 of the mean loss; the scores agree."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_ROWS, WIDTH)).astype(np.float32) * rng.uniform(0.5, 3, size=WIDTH)
    X = X.astype(np.float32)
    X[:, :3] = 100 + 30 * X[:, :3]
    planted = rng.normal(size=(WIDTH, N_INDICATORS)) * 0.1
    logits = (X[:, 3:] @ planted[3:]) - 4 + rng.normal(size=(N_ROWS, N_INDICATORS))
    labels = (logits > 0).astype(np.int8)
    rows = LabelledRows(
        X=X, labels=labels, indicators=tuple(f"indicator {at}" for at in range(N_INDICATORS))
    )

    def one_by_one() -> np.ndarray:
        Z = StandardScaler().fit_transform(X)
        found = [LogisticRegression(max_iter=500).fit(Z, column) for column in labels.T]
        return np.stack([one.decision_function(Z) for one in found], axis=1)

    ours = scores_of(fit_logistic(rows)[0], X)
    peer = one_by_one()
    for at in range(N_INDICATORS):
        agreement = np.corrcoef(ours[:, at], peer[:, at])[0, 1]
        assert agreement > 0.999, f"the scores of indicator {at} agree only to {agreement}"
    return compare(
        f"probe_fit[{N_INDICATORS} x {N_ROWS}x{WIDTH}]",
        lambda: fit_logistic(rows),
        one_by_one,
        amount=N_INDICATORS,
        unit="probes",
        peer_name="scikit-learn LogisticRegression, one after another",
        command="python -m benchmarks.run probe_fit",
    )
