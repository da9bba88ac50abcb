"""The most memory that a job holds at one time (Linux)."""

import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path


def peak_mib(job: Callable[[], object]) -> float:
    """Largest resident set while the job runs, above what was resident before, in MiB."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak up to now
    before = _resident("VmRSS")
    job()
    return (_resident("VmHWM") - before) / 1024


def _resident(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])
