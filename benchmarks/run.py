"""Run benchmarks and write benchmarks/results.json: `python -m benchmarks.run [NAME ...]`.

A benchmark is a module benchmarks/bench_NAME.py with a function `measure` that returns a row, or several. Rows of
benchmarks that were not run stay as they are.
"""

import importlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.timing import Row

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"


def main(names: list[str]) -> None:
    """Measure the named benchmarks, or all."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("WANDB_MODE", "disabled")
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    if unknown := sorted(set(names) - set(known)):
        sys.exit(f"no benchmark is called {unknown[0]!r}; there are {', '.join(known)}.")
    for name in names or known:
        found: Row | list[Row] = importlib.import_module(f"benchmarks.bench_{name}").measure()
        rows = _kept()
        for row in [found] if isinstance(found, Row) else found:
            rows[row.name] = asdict(row)
            print(
                f"{row.name}: {row.ours:.3g} against {row.peer:.3g} {row.unit} ({row.peer_name}), "
                f"x{row.ratio:.2f} [{row.ratio_low:.2f} .. {row.ratio_high:.2f}]"
            )
        RESULTS.write_text(json.dumps([rows[key] for key in sorted(rows)], indent=1) + "\n")


def _kept() -> dict[str, dict[str, Any]]:
    """Read just before writing, since other runs may have added rows meanwhile."""
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    return {row["name"]: row for row in found}


if __name__ == "__main__":
    main(sys.argv[1:])
