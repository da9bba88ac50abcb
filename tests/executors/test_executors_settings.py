"""The executor is a setting that changes how a study runs, and nothing of what it makes."""

import importlib.util
from pathlib import Path

import pytest

from mechprobe.cli.studies import Capture
from mechprobe.errors import ConfigError
from mechprobe.executors.local import LocalExecutor
from mechprobe.executors.ray_cluster import RayExecutor
from mechprobe.executors.settings import ExecutorSettings, make_executor
from mechprobe.study.config import read_study
from mechprobe.study.run import Run

STUDY = Path(__file__).parents[2] / "analyses" / "organism.toml"


def run_of(command: Capture) -> Run:
    return Run(config=read_study(command.file, command.overrides()), say=lambda _: None)


def test_options_of_the_command_are_settings_and_leave_the_stages_digest():
    plain = run_of(Capture(file=STUDY))
    ray = run_of(
        Capture(file=STUDY, executor="ray", workers=4, address="ray://h:10001", gpus_per_worker=0.5)
    )
    assert plain.config.capture.executor == ExecutorSettings()
    assert ray.config.capture.executor == ExecutorSettings(
        kind="ray", workers=4, address="ray://h:10001", gpus_per_worker=0.5
    )
    assert ray.settings("capture", "loading") == plain.settings("capture", "loading")
    few = run_of(Capture(file=STUDY, limit=3, set=("capture.limit=9",)))
    assert few.config.capture.limit == 3, "an option is nearer than a --set"


def test_settings_make_their_executor():
    assert make_executor(ExecutorSettings()) == LocalExecutor()
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    assert ray
    assert make_executor(ExecutorSettings(kind="ray", gpus_per_worker=0.25)) == RayExecutor(
        workers=2, gpus_per_worker=0.25
    )


def test_ray_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r'pip install "mechprobe\[ray\]"'):
        make_executor(ExecutorSettings(kind="ray"))


def test_settings_that_cannot_be_are_refused():
    for changes, what in (
        ({"workers": 0}, "workers is 0"),
        ({"max_attempts": 0}, "max_attempts 0"),
        ({"gpus_per_worker": 1.5}, "whole number of GPUs"),
        ({"cpus_per_worker": -1.0}, "cpus_per_worker is -1"),
    ):
        with pytest.raises(ConfigError, match=what):
            ExecutorSettings(**changes)


def test_units_are_done_here_in_their_order_until_one_fails():
    done: list[int] = []

    def work(unit: int) -> int:
        if unit == 3:
            raise KeyError(unit)
        done.append(unit)
        return unit * 10

    results: list[int] = []
    with pytest.raises(KeyError):
        results.extend(one.result for one in LocalExecutor().map(lambda: work, [2, 1, 3, 4]))
    assert (done, results) == ([2, 1], [20, 10])
    assert list(LocalExecutor().map(lambda: pytest.fail("nothing to do"), [])) == []
