import gc
import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.update(
    {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        # Ray makes its workers nicer than everybody else, so that they starve where other tests run beside them.
        "RAY_worker_niceness": "0",
    }
)


@pytest.fixture(scope="module")
def running_ray() -> Iterator[None]:
    """One Ray for a whole file, small and without a dashboard."""
    ray = pytest.importorskip("ray", reason='Ray is not installed (pip install "mechprobe[ray]")')
    for attempt in range(3):
        try:
            _start(ray)
            break
        except Exception:
            # It gives itself 30 seconds to start, which a busy machine may not give.
            ray.shutdown()
            with warnings.catch_warnings():
                # The processes of the failed start are let go while they still run.
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()
            if attempt == 2:
                raise
    yield
    ray.shutdown()


def _start(ray: Any) -> None:
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=80 << 20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
