"""The list of checkpoints that are shipped with the project, with digests and the commands that made them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mechprobe.errors import CheckpointError
from mechprobe.records import atomic_write_text, digest_tree
from mechprobe.saes.checkpoints import CONFIG_NAME, read_sae_config

MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShippedCheckpoint:
    """One folder of weights; the SAE fields are empty or 0 for a model."""

    name: str
    """Folder, relative to the manifest."""
    kind: str
    """"model", or the architecture of the SAE."""
    hook_name: str = ""
    d_in: int = 0
    d_sae: int = 0
    sha256: str
    """Over the names and contents of all files in the folder."""
    bytes: int
    command: str
    """What made it."""


def describe_checkpoint(root: Path, name: str, *, command: str) -> ShippedCheckpoint:
    """The manifest's line for the folder `root / name`, an SAE or a model."""
    folder = root / name
    if not folder.is_dir():
        raise CheckpointError(f"{folder} does not exist; train the checkpoint before it is listed.")
    config = read_sae_config(folder) if (folder / CONFIG_NAME).is_file() else {}
    return ShippedCheckpoint(
        name=name,
        kind=config.get("architecture", "model"),
        hook_name=config.get("metadata", {}).get("hook_name") or "",
        d_in=config.get("d_in", 0),
        d_sae=config.get("d_sae", 0),
        sha256=digest_tree(folder),
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        command=command,
    )


def write_manifest(root: Path, checkpoints: Sequence[ShippedCheckpoint]) -> Path:
    """Write `manifest.json` beside the checkpoints."""
    entries = [
        asdict(checkpoint) for checkpoint in sorted(checkpoints, key=lambda entry: entry.name)
    ]
    atomic_write_text(root / MANIFEST_NAME, json.dumps(entries, indent=2) + "\n")
    return root / MANIFEST_NAME


def read_manifest(root: Path) -> tuple[ShippedCheckpoint, ...]:
    """The shipped checkpoints.

    Raises:
        CheckpointError: there is no manifest, or it cannot be read.
    """
    path = root / MANIFEST_NAME
    try:
        return tuple(ShippedCheckpoint(**entry) for entry in json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}); it lists the checkpoints of this folder."
        ) from error


def verify_manifest(root: Path) -> None:
    """Compare every shipped checkpoint with its digest.

    Raises:
        CheckpointError: a folder is missing or differs; the message names it and how to make it anew.
    """
    for entry in read_manifest(root):
        folder = root / entry.name
        found = digest_tree(folder) if folder.is_dir() else "nothing"
        if found != entry.sha256:
            raise CheckpointError(
                f"{folder} has sha256 {found}, the manifest says {entry.sha256}; fetch it again, or make it "
                f"with `{entry.command}`."
            )
