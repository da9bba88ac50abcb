import os
from collections.abc import Iterator

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"


@pytest.fixture(scope="module")
def running_ray() -> Iterator[None]:
    """One Ray for a whole file, small and without a dashboard."""
    ray = pytest.importorskip("ray", reason='Ray is not installed (pip install "mechprobe[ray]")')
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=80 << 20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()
