"""Units of work on the actors of a Ray cluster: one machine's cores, a node's GPUs, or many nodes.

Actors of Ray Core and not Ray Data, which stands still in silence when actors hold every logical CPU. Ray restarts
actors that die and gives them their units again (both without limit), the ledger puts the limit (`ray_worker.py`).
At most two units wait at each actor, so that the driver holds no queue of its own in the cluster.
"""

import importlib.util
import os
import uuid
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mechprobe.errors import ConfigError, WorkError
from mechprobe.executors.ray_worker import Answer, Ledger, Worker
from mechprobe.executors.work import Done, MakeWork, Result, Unit

IN_FLIGHT = 2
"""Units at one actor: the one that it does, and the next one, so that it never waits."""
_OBJECT_STORE_BYTES = 128 << 20
"""Only unit numbers and paths travel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RayExecutor:
    """Does units on a cluster; a Ray that is running in this process already is used and left running."""

    workers: int
    address: str = "local"
    """"local" starts a Ray on this machine; else where `ray.init` finds one."""
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    max_attempts: int = 3

    @property
    def is_here(self) -> bool:
        """False: the work is pickled."""
        return False

    def map(
        self, make_work: MakeWork[Unit, Result], units: Sequence[Unit]
    ) -> Iterator[Done[Unit, Result]]:
        """Do the units side by side; yields each when it is done.

        Raises:
            ConfigError: Ray is not installed, or the cluster is too small for the workers.
            WorkError: the work could not be made ready, or some unit failed as often as it may.
        """
        if units:
            need_ray()
            with _connected(self), _actors(self, make_work, len(units)) as actors:
                yield from _done(actors, units, self.max_attempts)


def need_ray() -> None:
    """Refuse where Ray is missing.

    Raises:
        ConfigError: it is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            'the executor is "ray", and Ray is not installed; pip install "mechprobe[ray]", or use the executor '
            '"local".'
        )


@contextmanager
def _connected(executor: RayExecutor) -> Generator[None, None, None]:
    # Read when Ray is imported: no reports home, and CPU workers keep their view of the GPUs.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(ray, executor)
    try:
        _need_room(ray, executor)
        yield
    finally:
        if is_ours:
            ray.shutdown()


def _connect(ray: Any, executor: RayExecutor) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if executor.address == "local":
        n_cpus = int(max(1, executor.cpus_per_worker) * executor.workers)
        options |= {
            "num_cpus": max(n_cpus, os.cpu_count() or 1),
            "object_store_memory": _OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    try:
        ray.init(address=executor.address, **options)
    # A Ray that does not start in its 30 seconds says so by a bare Exception.
    except Exception as error:
        ray.shutdown()
        raise ConfigError(
            f"no Ray cluster answers at {executor.address!r} ({' '.join(str(error).split())[:200]}); start one with "
            '`ray start --head`, use the address "local", or wait until this machine is less busy.'
        ) from error


def _need_room(ray: Any, executor: RayExecutor) -> None:
    """Actors that find no place would wait for ever, without a word."""
    has = ray.cluster_resources()
    for resource, each in (("CPU", executor.cpus_per_worker), ("GPU", executor.gpus_per_worker)):
        wanted, found = each * executor.workers, has.get(resource, 0.0)
        if wanted > found:
            raise ConfigError(
                f"{executor.workers} workers with {each:g} {resource}s each need {wanted:g}, and the Ray cluster has "
                f"{found:g}; ask for fewer workers, or for less of a {resource} each."
            )


@contextmanager
def _actors(
    executor: RayExecutor, make_work: MakeWork[Any, Any], n_units: int
) -> Generator[list[Any], None, None]:
    import ray

    ledger_name = f"mechprobe-ledger-{uuid.uuid4().hex}"
    ledger: Any = ray.remote(Ledger).options(
        name=ledger_name, num_cpus=0, max_restarts=-1, max_task_retries=-1
    )
    ledger = ledger.remote()
    kind: Any = ray.remote(Worker).options(
        num_cpus=executor.cpus_per_worker,
        num_gpus=executor.gpus_per_worker,
        max_restarts=-1,
        max_task_retries=-1,
    )
    # Held here for as long as a worker may have to be started again with it.
    job = ray.put(make_work)
    begin, open_job = _Begin(ledger_name=ledger_name), _Opened(job=[job])
    n_workers = min(executor.workers, n_units)
    actors = [kind.remote(open_job, begin, executor.max_attempts) for _ in range(n_workers)]
    try:
        yield actors
    finally:
        for actor in [*actors, ledger]:
            ray.kill(actor)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opened:
    """Makes the work ready from where the driver put it."""

    job: list[Any]

    def __call__(self) -> Any:
        import ray

        make_work: Any = ray.get(self.job[0])
        return make_work()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Begin:
    """Asks the ledger from within a worker."""

    ledger_name: str

    def __call__(self, number: int) -> int:
        import ray

        ledger: Any = ray.get_actor(self.ledger_name)
        n_begun: Any = ray.get(ledger.begin.remote(number))
        return n_begun


def _done(
    actors: Sequence[Any], units: Sequence[Unit], max_attempts: int
) -> Iterator[Done[Unit, Any]]:
    import ray

    waiting = deque(enumerate(units))
    flying: dict[Any, tuple[int, Any]] = {}
    failed: dict[int, Answer] = {}

    def send(actor: Any) -> None:
        if waiting:
            number, unit = waiting.popleft()
            flying[actor.do.remote(number, unit)] = number, actor

    for _ in range(IN_FLIGHT):
        for actor in actors:
            send(actor)
    while flying:
        (ref,), _ = ray.wait(list(flying), num_returns=1)
        number, actor = flying.pop(ref)
        answer = _read(ray, ref)
        send(actor)
        if answer.kind == "done":
            yield Done(unit=units[number], result=answer.result)
        elif answer.kind == "not ready":
            raise WorkError(f"a worker could not begin: {answer.reason}")
        else:
            failed[number] = answer
    if failed:
        raise _given_up(units, failed, max_attempts)


def _read(ray: Any, ref: Any) -> Answer:
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[:300]
        return Answer(kind="not ready", reason=f"{type(error).__name__}: {reason}")


def _given_up(units: Sequence[Any], failed: dict[int, Answer], max_attempts: int) -> WorkError:
    shown = [f"unit {units[number]}: {failed[number].reason}" for number in sorted(failed)[:3]]
    error = WorkError(
        f"{len(failed)} of {len(units)} units of work failed {max_attempts} times each ({'; '.join(shown)}); the others "
        "are done: mend this and run again."
    )
    traces = [failed[number].trace for number in sorted(failed) if failed[number].trace]
    if traces:
        error.add_note(f"In the worker:\n{traces[0]}")
    return error
