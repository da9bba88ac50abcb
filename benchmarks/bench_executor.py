"""What Ray costs: shards of at least ten seconds by one worker, against the same shards in this process.

Both run the same numbers (matrix products and a file), so that the ratio is of the executors. One worker at a time
works, on the same core; the time to start Ray and its worker is printed apart, since a run pays it once.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# No reports home; and a busy machine would starve workers that Ray makes nicer than everybody else.
os.environ.update(
    {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_worker_niceness": "0",
    }
)

from benchmarks.timing import Row, compare
from mechprobe.executors.local import LocalExecutor
from mechprobe.executors.ray_cluster import RayExecutor
from mechprobe.executors.work import Executor

SECONDS = 10.0
"""CPU time of a shard."""
N_SHARDS = 2


@dataclass(frozen=True, kw_only=True)
class Products:
    """Work of a fixed amount, which says how long one shard takes."""

    folder: Path
    n_products: int

    def open(self) -> Callable[[int], int]:
        """Ready at once."""
        return self.do

    def do(self, shard: int) -> int:
        """Multiply matrices, write the sum."""
        matrix = np.random.default_rng(shard).standard_normal((256, 256)) / 16
        product = matrix
        for _ in range(self.n_products):
            product = np.tanh(product @ matrix)
        (self.folder / f"shard-{shard}").write_bytes(product.tobytes())
        return shard


def measure() -> Row:
    """Equal files first."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side in ("here", "ray"):
            (folder / side).mkdir()
        n_products = _products_of(SECONDS, folder)
        print(f"{n_products} products a shard")
        _start_ray()

        def run(executor: Executor, side: str) -> None:
            work = Products(folder=folder / side, n_products=n_products)
            assert len(list(executor.map(work.open, range(N_SHARDS)))) == N_SHARDS

        row = compare(
            f"executor[1 worker, {N_SHARDS} shards of {SECONDS:.0f} s]",
            lambda: run(RayExecutor(workers=1), "ray"),
            lambda: run(LocalExecutor(), "here"),
            amount=N_SHARDS,
            unit="shards",
            peer_name="the same shards in this process",
            command="python -m benchmarks.run executor",
            rounds=2,
            warm_up=False,
        )
        for shard in range(N_SHARDS):
            here, ray = (
                (folder / side / f"shard-{shard}").read_bytes() for side in ("here", "ray")
            )
            assert here == ray
        return row


def _products_of(seconds: float, folder: Path) -> int:
    n_products = 200
    start = time.process_time()
    Products(folder=folder, n_products=n_products).do(0)
    return int(n_products * seconds / (time.process_time() - start))


def _start_ray() -> None:
    import ray

    start = time.perf_counter()
    for attempt in range(3):
        try:
            ray.init(
                address="local",
                num_cpus=1,
                object_store_memory=80 << 20,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
            )
            break
        except Exception:
            # It gives itself 30 seconds, which a busy machine may not.
            ray.shutdown()
            if attempt == 2:
                raise
    print(f"Ray started in {time.perf_counter() - start:.1f} s")
