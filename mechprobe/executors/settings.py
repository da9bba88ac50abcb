"""Which executor runs the work of a stage: it decides how fast the bytes are made, never which."""

from dataclasses import dataclass
from typing import Literal

from mechprobe.errors import ConfigError
from mechprobe.executors.local import LocalExecutor
from mechprobe.executors.work import Executor


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutorSettings:
    """Where shards are worked on."""

    kind: Literal["local", "ray"] = "local"
    """"local": one after the other in this process. "ray": by workers of a Ray cluster (pip install "mechprobe[ray]")."""
    workers: int = 2
    """Ray: processes that work side by side, each with a model of its own."""
    address: str = "local"
    """Ray: "local" starts one on this machine, "auto" finds the running one, "ray://HOST:10001" is a cluster's client port."""
    cpus_per_worker: float = 1.0
    """Ray: logical CPUs that a worker takes."""
    gpus_per_worker: float = 0.0
    """Ray: GPUs that a worker takes; 0.5 puts two on one GPU, whose memory they then have to share."""
    max_attempts: int = 3
    """Ray: how often a shard may fail, by an error or with its worker, before it is given up."""

    def __post_init__(self) -> None:
        if self.workers < 1 or self.max_attempts < 1:
            raise ConfigError(
                f"workers is {self.workers} and max_attempts {self.max_attempts}; both must be >= 1."
            )
        if self.cpus_per_worker < 0 or self.gpus_per_worker < 0:
            raise ConfigError(
                f"cpus_per_worker is {self.cpus_per_worker} and gpus_per_worker {self.gpus_per_worker}; neither may "
                "be < 0."
            )
        if self.gpus_per_worker > 1 and self.gpus_per_worker % 1:
            raise ConfigError(
                f"gpus_per_worker is {self.gpus_per_worker}; above 1 it must be a whole number of GPUs."
            )


def make_executor(settings: ExecutorSettings) -> Executor:
    """The executor that settings name.

    Raises:
        ConfigError: Ray is asked for and not installed.
    """
    if settings.kind == "local":
        return LocalExecutor()
    from mechprobe.executors.ray_cluster import RayExecutor, need_ray

    need_ray()
    return RayExecutor(
        workers=settings.workers,
        address=settings.address,
        cpus_per_worker=settings.cpus_per_worker,
        gpus_per_worker=settings.gpus_per_worker,
        max_attempts=settings.max_attempts,
    )
