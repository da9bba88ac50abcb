"""The record that every stage leaves beside what it made: enough to make it again.

The fields follow inspect_ai's `EvalSpec` (task, arguments, revision with its dirty flag, package versions).
Running a stage again with the same configuration and the same inputs is a no-op: `is_current` decides.
"""

import hashlib
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mechprobe.errors import DataError

SCHEMA = 1
RECORD_NAME = "record.json"
RECORDED_PACKAGES = (
    "mechprobe",
    "torch",
    "transformers",
    "transformer-lens",
    "sae-lens",
    "scikit-learn",
    "numpy",
    "scipy",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Revision:
    """The state of the code that ran."""

    commit: str
    dirty: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """What a stage ran with, on what, and what came out."""

    stage: str
    config: Mapping[str, Any]
    seed: int | None
    inputs: Mapping[str, str]
    """Name of each thing read -> digest of its bytes."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    revision: Revision | None = None
    machine: str = ""
    schema: int = SCHEMA


def make_record(
    stage: str,
    config: Mapping[str, Any],
    *,
    seed: int | None = None,
    inputs: Mapping[str, str] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> RunRecord:
    """Build the record of a stage, with the versions, revision and machine of this process."""
    return RunRecord(
        stage=stage,
        config=json.loads(json.dumps(config, default=str)),
        seed=seed,
        inputs=dict(inputs or {}),
        metrics=dict(metrics or {}),
        packages=installed_packages(),
        revision=code_revision(),
        machine=f"{platform.machine()}, {os.cpu_count()} CPU cores, {platform.system()}",
    )


def write_record(folder: Path, record: RunRecord) -> Path:
    """Write `record.json` into `folder`, whole or not at all."""
    path = folder / RECORD_NAME
    atomic_write_text(path, json.dumps(asdict(record), indent=2, sort_keys=True) + "\n")
    return path


def read_record(folder: Path) -> RunRecord:
    """Read the record of a stage.

    Raises:
        DataError: there is none, it is not JSON, or a newer mechprobe wrote it.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        raise DataError(f"{folder} has no {RECORD_NAME}; run the stage that writes this folder.")
    try:
        fields = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path} is not JSON ({error}); delete it and run the stage again."
        ) from error
    if fields.get("schema", 0) > SCHEMA:
        raise DataError(
            f"{path} has schema {fields['schema']}, this mechprobe reads up to {SCHEMA}; upgrade."
        )
    if fields.get("revision"):
        fields["revision"] = Revision(**fields["revision"])
    return RunRecord(**fields)


def is_current(
    folder: Path, stage: str, config: Mapping[str, Any], inputs: Mapping[str, str]
) -> bool:
    """Whether `folder` holds this stage's result for exactly this configuration and these inputs."""
    if not (folder / RECORD_NAME).is_file():
        return False
    record = read_record(folder)
    wanted = json.loads(json.dumps(config, default=str))
    return (record.stage, record.config, record.inputs) == (stage, wanted, dict(inputs))


def digest_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_tree(folder: Path) -> str:
    """SHA-256 over the names and contents of all files below `folder`."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(folder).as_posix()}\0{digest_file(path)}\n".encode())
    return total.hexdigest()


def digest_json(value: object) -> str:
    """SHA-256 of a JSON-able value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def atomic_write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    atomic_write_bytes(path, text.encode())


def installed_packages() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    found: dict[str, str] = {}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def code_revision() -> Revision | None:
    """The commit that this package's checkout stands on; None outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=here,
                capture_output=True,
                text=True,
                timeout=5,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if not commit:
        return None
    return Revision(commit=commit, dirty=bool(git("status", "--porcelain", "--", str(here))))
