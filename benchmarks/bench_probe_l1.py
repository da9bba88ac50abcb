"""18 L1 probes over all features of sparse codes: shared proximal Newton steps against liblinear, label after label.

Both read codes of unit spread with the same penalty on the weights. liblinear penalises the offset too; its offset
is put at its best before the objectives (log loss + penalty on the weights) are compared. Ours brings a duality gap
over all features, a bound on its distance from the optimum that needs no peer.

Two kinds of codes. Real ones, of the shipped organism and its SAE, are almost collinear and their labels almost
separable: liblinear takes 4 to 25 s a label at 93 000 tokens (`PROBE_L1_TRANSCRIPTS=2600 python -m benchmarks.run
probe_l1`). Made-up ones, of noisy labels whose probes use nearly all of 1 024 features, are the other extreme: there
coordinate descent needs few sweeps, working sets save nothing, and ours is the slower one.
"""

import os

import numpy as np
import scipy.sparse as sp
import torch
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression

from benchmarks.made_codes import made_codes, made_labels
from benchmarks.memory import peak_mib
from benchmarks.organism_codes import organism_codes
from benchmarks.timing import Row, compare
from mechprobe.probes.matrix import size_of
from mechprobe.probes.solving.proximal_newton import SparseSolution, solve_l1
from mechprobe.probes.solving.standardise import scaling_of

N_TRANSCRIPTS = int(os.environ.get("PROBE_L1_TRANSCRIPTS", "400"))
N_MADE, D_SAE, K, STRENGTH = 10_000, 1024, 32, 1.0


def measure() -> list[Row]:
    """A row for each kind of codes."""
    torch.set_num_threads(1)
    made = made_codes(N_MADE, D_SAE, K)
    return [
        _measure("organism", *organism_codes(N_TRANSCRIPTS)),
        _measure("made up", made, made_labels(made, 18)),
    ]


def _measure(kind: str, codes: sp.csr_matrix, labels: np.ndarray) -> Row:
    """Objectives first, then speed; the peak memory of ours is printed."""
    Z = sp.csr_matrix(scaling_of(codes).apply(codes))
    sign = (labels.T == 1).astype(np.float64) - (labels.T == 0)

    def ours() -> SparseSolution:
        return solve_l1(Z, sign, np.ones_like(sign), [STRENGTH], tol=1e-4)[0]

    def one_by_one() -> list[LogisticRegression]:
        found: list[LogisticRegression] = []
        for column in sign:
            model = LogisticRegression(
                C=1 / STRENGTH, l1_ratio=1.0, solver="liblinear", max_iter=1000
            )
            found.append(model.fit(Z[column != 0], column[column != 0]))
        return found

    _check(Z, sign, ours(), one_by_one())
    print(f"{kind}: peak memory of ours, above the codes: {peak_mib(ours):.0f} MiB")
    return compare(
        f"probe_l1[{len(sign)} x {sign.shape[1]}x{size_of(Z)[1]}, {kind}]",
        ours,
        one_by_one,
        amount=len(sign),
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
    used = sign != 0
    margins, sign = Z[used] @ weight, sign[used]
    loss = minimize_scalar(lambda bias: np.logaddexp(0, -sign * (margins + bias)).sum())
    return float(loss.fun) + STRENGTH * float(np.abs(weight).sum())
