"""18 L1 probes over all features of sparse codes: shared proximal Newton steps against liblinear, label after label.

Both read codes of unit spread with the same penalty on the weights. liblinear penalises the offset too; its offset
is put at its best before the objectives (log loss + penalty on the weights) are compared. Ours brings a duality gap
over all features, a bound on its distance from the optimum that needs no peer.

Made-up codes are kinder to liblinear than real ones. Full size: `PROBE_L1_TOKENS=110000 python -m benchmarks.run
probe_l1`.
"""

import os

import numpy as np
import scipy.sparse as sp
import torch
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression

from benchmarks.made_codes import made_codes, made_labels
from benchmarks.memory import peak_mib
from benchmarks.timing import Row, compare
from mechprobe.probes.proximal_newton import SparseSolution, solve_l1
from mechprobe.probes.standardise import scaling_of

N_TOKENS = int(os.environ.get("PROBE_L1_TOKENS", "10000"))
D_SAE, K, N_INDICATORS, STRENGTH = 1024, 32, 18, 1.0


def measure() -> Row:
    """Objectives first, then speed; the peak memory of ours is printed."""
    torch.set_num_threads(1)
    codes = made_codes(N_TOKENS, D_SAE, K)
    labels = made_labels(codes, N_INDICATORS)
    Z = sp.csr_matrix(scaling_of(codes).apply(codes))
    sign = np.where(labels.T == 1, 1.0, -1.0)

    def ours() -> SparseSolution:
        return solve_l1(Z, sign, np.ones_like(sign), [STRENGTH], tol=1e-4)[0]

    def one_by_one() -> list[LogisticRegression]:
        model = LogisticRegression(C=1 / STRENGTH, l1_ratio=1.0, solver="liblinear", max_iter=1000)
        return [model.__class__(**model.get_params()).fit(Z, column) for column in labels.T]

    _check(Z, sign, ours(), one_by_one())
    print(f"peak memory of ours, above the codes: {peak_mib(ours):.0f} MiB")
    return compare(
        f"probe_l1[{N_INDICATORS} x {N_TOKENS}x{D_SAE}, {K} active]",
        ours,
        one_by_one,
        amount=N_INDICATORS,
        unit="probes",
        peer_name="liblinear, one label after another",
        command="python -m benchmarks.run probe_l1",
        rounds=3,
    )


def _check(
    Z: sp.csr_matrix, sign: np.ndarray, ours: SparseSolution, peers: list[LogisticRegression]
) -> None:
    assert ours.gap.max() <= 1e-4, f"the duality gap is {ours.gap.max():.1e}"
    for at, peer in enumerate(peers):
        best = _objective(Z, sign[at], ours.weight[:, at])
        found = _objective(Z, sign[at], peer.coef_[0])
        assert best <= found * (1 + 1e-4), f"label {at}: {best} against liblinear's {found}"


def _objective(Z: sp.csr_matrix, sign: np.ndarray, weight: np.ndarray) -> float:
    scores = Z @ weight
    loss = minimize_scalar(lambda bias: np.logaddexp(0, -sign * (scores + bias)).sum())
    return float(loss.fun) + STRENGTH * float(np.abs(weight).sum())
