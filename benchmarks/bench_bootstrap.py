"""Interval of an AUROC over 37 000 turns: all draws together against scikit-learn in a loop, on equal draws."""

from dataclasses import replace

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.timing import Row, compare
from mechprobe.evaluation.bootstrap import bootstrap_aurocs, cluster_draws
from mechprobe.evaluation.units import Units

N_TRANSCRIPTS, N_TURNS, N_BOOT, N_PEER = 2500, 37_000, 1000, 10


def measure() -> Row:
    """The peer does a hundredth of the draws and is counted a hundred times; ours draws anew each time."""
    rng = np.random.default_rng(0)
    clusters = np.sort(rng.integers(N_TRANSCRIPTS, size=N_TURNS))
    is_positive = rng.random(N_TURNS) < 0.1
    scores = rng.normal(size=N_TURNS) + is_positive
    units = Units(scores=scores, is_positive=is_positive, clusters=clusters)
    cluster = np.unique(clusters, return_inverse=True)[1]
    rows = np.arange(N_TURNS)

    def loop(draws: np.ndarray) -> list[float]:
        resamples = [np.repeat(rows, counts.astype(int)[cluster]) for counts in draws]
        return [float(roc_auc_score(is_positive[taken], scores[taken])) for taken in resamples]

    def ours() -> np.ndarray:
        cluster_draws.cache_clear()
        return bootstrap_aurocs(units, n_boot=N_BOOT, seed=0)

    draws = cluster_draws(int(cluster.max()) + 1, N_BOOT, 0)[:N_PEER]
    gap = np.abs(ours()[:N_PEER] - loop(draws)).max()
    assert gap <= 1e-12, f"the two bootstraps differ by {gap}"
    timed = compare(
        f"bootstrap[{N_TURNS} turns, {N_TRANSCRIPTS} transcripts, {N_BOOT} draws]",
        ours,
        lambda: loop(draws),
        amount=N_BOOT,
        unit="draws",
        peer_name=f"roc_auc_score of each resample ({N_PEER} timed)",
        command="python -m benchmarks.run bootstrap",
    )
    share = N_PEER / N_BOOT
    return replace(
        timed,
        peer=timed.peer * share,
        ratio=timed.ratio / share,
        ratio_low=timed.ratio_low / share,
        ratio_high=timed.ratio_high / share,
    )
