"""Loading and saving SAEs, in sae-lens' own format, and checking that one fits where it is to be used."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mechprobe.errors import CheckpointError, HookError
from mechprobe.saes.lens import Sae, import_sae_lens
from mechprobe.saes.pretrained.formats import load_local

CONFIG_NAME = "cfg.json"
WEIGHTS_NAME = "sae_weights.safetensors"


def load_sae(source: str | Path, sae_id: str | None = None, device: str = "cpu") -> Sae:
    """Load an SAE in float32: from a folder in any format of `pretrained/formats.py`, or by release and `sae_id`.

    Raises:
        CheckpointError: there is no SAE, or it cannot be read.
    """
    if sae_id is None:
        return load_local(Path(source), device).requires_grad_(False).eval()
    try:
        sae = import_sae_lens().SAE.from_pretrained(
            str(source), sae_id, device=device, dtype="float32"
        )
    except Exception as error:  # the loaders raise whatever their formats' readers raise
        raise CheckpointError(
            f"the SAE {source} {sae_id} cannot be loaded ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'}); `mechprobe sae list` tells the releases, "
            "and offline only what was fetched before can be loaded."
        ) from error
    return sae.requires_grad_(False).eval()


def check_fits(
    sae: Sae,
    width: int,
    hook_name: str,
    *,
    resolve: Callable[[str], str] | None = None,
    model_name: str = "",
) -> None:
    """Check that an SAE belongs at a hook point of a model.

    Args:
        width: width of the activations there.
        hook_name: canonical name of the hook point.
        resolve: turns the SAE's hook name, which may be an alias, into the canonical one (`Subject.resolve`).
        model_name: the model; compared where the SAE names one as well.

    Raises:
        CheckpointError: the width, the hook point or the model is another.
    """
    if sae.cfg.d_in != width:
        raise CheckpointError(
            f"the SAE reads activations of width d_in = {sae.cfg.d_in}, but {hook_name} has width {width}; "
            f"use an SAE trained at {hook_name} of this model."
        )
    if sae.cfg.reshape_activations != "none":
        raise CheckpointError(
            f"the SAE reads heads one by one (reshape_activations {sae.cfg.reshape_activations!r}), which is "
            "not supported; use an SAE of a residual stream, MLP or attention output."
        )
    trained_at = sae.cfg.metadata.hook_name
    if trained_at and _resolved(trained_at, resolve) != hook_name:
        raise CheckpointError(
            f"the SAE was trained at {trained_at}, not at {hook_name}; attach it there, or use an SAE "
            f"trained at {hook_name}."
        )
    trained_on = sae.cfg.metadata.model_name
    if model_name and trained_on and Path(trained_on).name != Path(model_name).name:
        raise CheckpointError(
            f"the SAE was trained on {trained_on}, not on {model_name}; use an SAE of this model."
        )


def save_sae(sae: Sae, folder: Path, dtype: str = "float32") -> Path:
    """Save an SAE where `sae_lens.SAE.load_from_disk` reads it; float16 halves it for shipping."""
    scratch = folder / ".saving"
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        copy.deepcopy(sae).to(dtype=getattr(torch, dtype)).save_model(scratch)
        for path in sorted(scratch.iterdir()):
            path.chmod(0o644)
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def read_sae_config(folder: Path) -> dict[str, Any]:
    """The `cfg.json` of a saved SAE, without loading it.

    Raises:
        CheckpointError: there is none, or it is not JSON.
    """
    _check_folder(folder)
    try:
        return json.loads((folder / CONFIG_NAME).read_text())
    except ValueError as error:
        raise CheckpointError(
            f"{folder / CONFIG_NAME} is not JSON ({error}); train or fetch the SAE anew."
        ) from error


def _check_folder(folder: Path) -> None:
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder} holds no SAE: there is no {name}; name a folder in sae-lens' format, or a "
                "release together with an sae_id."
            )


def _resolved(name: str, resolve: Callable[[str], str] | None) -> str:
    try:
        return resolve(name) if resolve else name
    except HookError:
        return name
