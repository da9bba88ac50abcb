"""18 L1 probes over all features of sparse codes: shared proximal Newton steps against liblinear, label after label.

Both read codes of unit spread with the same penalty on the weights. liblinear penalises the offset too; its offset
is put at its best before the objectives (log loss + penalty on the weights) are compared. Ours brings a duality gap
over all features, a bound on its distance from the optimum that needs no peer.

Three kinds of codes. The shipped organism's are almost collinear and their labels almost separable: liblinear takes 4 to
25 s a label at 93 000 tokens (`PROBE_L1_TRANSCRIPTS=2600`). Made-up ones, of noisy labels whose probes use nearly all of
1 024 features, are the other extreme: there coordinate descent needs few sweeps, working sets save nothing, and ours is
the slower one. Real transcripts' codes are measured where a finished study of `analyses/transcripts.toml` is named
(`PROBE_L1_RUN=FOLDER`); once, as liblinear takes many minutes there.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression

from benchmarks.made_codes import made_codes, made_labels
from benchmarks.memory import peak_mib
from benchmarks.organism_codes import organism_codes
from benchmarks.timing import Row, compare
from benchmarks.transcript_codes import transcript_codes
from mechprobe.probes.matrix import size_of
from mechprobe.probes.solving.proximal_newton import SparseSolution, solve_l1
from mechprobe.probes.solving.standardise import scaling_of

N_TRANSCRIPTS = int(os.environ.get("PROBE_L1_TRANSCRIPTS", "400"))
N_TOKENS = int(os.environ.get("PROBE_L1_TOKENS", "110000"))
N_MADE, D_SAE, K, STRENGTH = 10_000, 1024, 32, 1.0


def measure() -> list[Row]:
    """A row for each kind of codes."""
    torch.set_num_threads(1)
    if run := os.environ.get("PROBE_L1_RUN"):
        return [_measure("transcripts", *transcript_codes(Path(run), N_TOKENS), once=True)]
    made = made_codes(N_MADE, D_SAE, K)
    return [
        _measure("organism", *organism_codes(N_TRANSCRIPTS)),
        _measure("made up", made, made_labels(made, 18)),
    ]


def _measure(kind: str, codes: sp.csr_matrix, labels: np.ndarray, *, once: bool = False) -> Row:
    """Speed, then the objectives that were reached; the peak memory of ours is printed."""
    Z = sp.csr_matrix(scaling_of(codes).apply(codes))
    sign = (labels.T == 1).astype(np.float64) - (labels.T == 0)
    reached: dict[str, Any] = {}

    def ours() -> None:
        reached["ours"] = solve_l1(Z, sign, np.ones_like(sign), [STRENGTH], tol=1e-4)[0]

    def one_by_one() -> None:
        reached["peers"] = [_liblinear(Z, column) for column in sign]

    row = compare(
        f"probe_l1[{len(sign)} x {sign.shape[1]}x{size_of(Z)[1]}, {kind}]",
        ours,
        one_by_one,
        amount=len(sign),
        unit="probes",
        peer_name="liblinear, one label after another",
        command="python -m benchmarks.run probe_l1",
        rounds=1 if once else 3,
        warm_up=not once,
    )
    _check(Z, sign, reached["ours"], reached["peers"])
    print(f"{kind}: peak memory of ours, above the codes: {peak_mib(ours):.0f} MiB")
    return row


def _liblinear(Z: sp.csr_matrix, sign: np.ndarray) -> LogisticRegression:
    model = LogisticRegression(C=1 / STRENGTH, l1_ratio=1.0, solver="liblinear", max_iter=1000)
    return model.fit(Z[sign != 0], sign[sign != 0])


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
