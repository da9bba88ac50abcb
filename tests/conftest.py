import os
from pathlib import Path

import hypothesis
import pytest

# Tests state facts, never times: a busy machine must not fail them.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real material that tests may read; a fresh clone does without."""
    beside = Path(__file__).resolve().parents[1].parent / "shared"
    folder = Path(os.environ.get("MECHPROBE_SHARED", beside)) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real transcripts at {folder}; set MECHPROBE_SHARED to run this test")
    return folder


pytest_plugins = ["tests.models.tiny"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file goes first, so that no worker ends alone with it."""
    items.sort(key=lambda item: item.path.name != "test_study_pipeline.py")
