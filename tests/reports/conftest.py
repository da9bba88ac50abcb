"""One made-up run of each kind, with its report, for all tests of the room."""

from pathlib import Path

import pytest

from mechprobe.reports.report import write_report
from tests.reports.synthetic_run import write_synthetic_run


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with causal part; its report is written."""
    folder = write_synthetic_run(tmp_path_factory.mktemp("full") / "organism")
    write_report(folder)
    return folder


@pytest.fixture(scope="session")
def detection_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of transcripts without interventions; its report is written."""
    folder = write_synthetic_run(tmp_path_factory.mktemp("det") / "transcripts", causal=False)
    write_report(folder)
    return folder


@pytest.fixture
def small_run(tmp_path: Path) -> Path:
    """A run of three indicators to break: written afresh for each test, without its report."""
    return write_synthetic_run(tmp_path / "run", n_indicators=3)
