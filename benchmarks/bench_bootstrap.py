"""Paired bootstrap of two scorers over 37 000 turns: all draws together against scikit-learn in a loop, on equal draws."""

from dataclasses import replace

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.memory import peak_mib
from benchmarks.timing import Row, compare, less_is_better
from mechprobe.evaluation.bootstrap import bootstrap_differences, cluster_draws
from mechprobe.evaluation.units import Units

N_TRANSCRIPTS, N_TURNS, N_BOOT, N_PEER = 2500, 37_000, 1000, 10
SETTING = f"[2 scorers, {N_TURNS} turns, {N_TRANSCRIPTS} transcripts, {N_BOOT} draws]"
COMMAND = "python -m benchmarks.run bootstrap"


def measure() -> list[Row]:
    """The peer does a hundredth of the draws and is counted a hundred times; ours draws anew each time."""
    first, second = made_units()
    cluster = np.unique(first.clusters, return_inverse=True)[1]
    rows = np.arange(N_TURNS)

    def loop(draws: np.ndarray) -> np.ndarray:
        found: list[float] = []
        for counts in draws:
            taken = np.repeat(rows, counts.astype(int)[cluster])
            labels = first.is_positive[taken]
            aurocs = [roc_auc_score(labels, units.scores[taken]) for units in (first, second)]
            found.append(float(aurocs[0] - aurocs[1]))
        return np.array(found)

    def ours() -> np.ndarray:
        cluster_draws.cache_clear()
        return bootstrap_differences(first, second, n_boot=N_BOOT, seed=0)

    draws = cluster_draws(int(cluster.max()) + 1, N_BOOT, 0)[:N_PEER]
    gap = np.abs(ours()[:N_PEER] - loop(draws)).max()
    assert gap <= 1e-12, f"the two bootstraps differ by {gap}"
    timed = compare(
        f"bootstrap{SETTING}",
        ours,
        lambda: loop(draws),
        amount=N_BOOT,
        unit="draws",
        peer_name=f"roc_auc_score of each resample and scorer ({N_PEER} draws timed)",
        command=COMMAND,
    )
    return [for_all_draws(timed), memory(peak_mib(ours), peak_mib(lambda: loop(draws)))]


def made_units() -> tuple[Units, Units]:
    """Two scorers of the same turns, one better than the other."""
    rng = np.random.default_rng(0)
    clusters = np.sort(rng.integers(N_TRANSCRIPTS, size=N_TURNS))
    is_positive = rng.random(N_TURNS) < 0.1
    better = rng.normal(size=N_TURNS) + is_positive
    worse = better + rng.normal(size=N_TURNS)
    return (
        Units(scores=better, is_positive=is_positive, clusters=clusters),
        Units(scores=worse, is_positive=is_positive, clusters=clusters),
    )


def for_all_draws(timed: Row) -> Row:
    """The row as if the peer had done every draw."""
    share = N_PEER / N_BOOT
    return replace(
        timed,
        peer=timed.peer * share,
        ratio=timed.ratio / share,
        ratio_low=timed.ratio_low / share,
        ratio_high=timed.ratio_high / share,
    )


def memory(ours: float, peer: float) -> Row:
    """Peak memory; the peer's does not grow with the draws, ours up to its block of draws does."""
    return less_is_better(
        f"bootstrap_memory{SETTING}",
        ours,
        peer,
        unit="MiB at peak",
        peer_name=f"roc_auc_score of each resample and scorer ({N_PEER} draws)",
        command=COMMAND,
    )
