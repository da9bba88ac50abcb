"""SAEs from local files in the formats of other projects, read by sae-lens' loaders.

Those loaders fetch from the hub. Here they are pointed at a folder: what they would fetch they find there, or say that
it is missing. What they get wrong for files that are not of a listed release is mended: sizes are those of the
weights, sparsify's decoder is turned where its file has features first, and Llama Scope's input scaling is folded in.
"""

import json
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mechprobe.errors import CheckpointError
from mechprobe.saes.lens import Sae, import_sae_lens

_FILES = {
    "sae_lens": ("cfg.json", "sae_weights.safetensors"),
    "sparsify": ("cfg.json", "sae.safetensors"),
    "gemma_2": ("params.npz",),
    "gemma_3": ("config.json", "params.safetensors"),
    "dictionary_learning_1": ("config.json", "ae.pt"),
    "llama_scope": ("hyperparams.json", "checkpoints/final.safetensors"),
}
"""sae-lens' name of a format -> the files that tell it, relative to the SAE's folder."""
_TRANSCODER_CONFIG = ("wandb-config.yaml", "wanb-config.yaml")


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalSae:
    """Where an SAE lies, in the terms of sae-lens' loaders."""

    format: str
    root: Path
    """Stands for the hub repository."""
    inside: str
    """Path of the SAE below the root."""

    @property
    def repository(self) -> str:
        """What the loaders read the model and the kind from."""
        return self.root.name


def locate(path: Path) -> LocalSae:
    """Find out an SAE's format by its files.

    Raises:
        CheckpointError: no format is known that has such files.
    """
    if path.is_file() and any((path.parent / name).is_file() for name in _TRANSCODER_CONFIG):
        return LocalSae(format="mwhanna_transcoder", root=path.parent, inside=path.name)
    for name, files in _FILES.items():
        if all((path / file).is_file() for file in files):
            root = _gemma_root(path) if name.startswith("gemma") else path.parent
            is_transcoder = name == "gemma_2" and "transcoder" in root.name
            return LocalSae(
                format="gemma_2_transcoder" if is_transcoder else name,
                root=root,
                inside=path.relative_to(root).as_posix(),
            )
    there = sorted(one.name for one in path.iterdir()) if path.is_dir() else []
    known = "; ".join(f"{name}: {' and '.join(files)}" for name, files in _FILES.items())
    raise CheckpointError(
        f"{path} holds no SAE (found: {', '.join(there[:3]) or 'nothing'}). Known files: {known}; or a transcoder's "
        f"safetensors file beside {_TRANSCODER_CONFIG[0]}. Name the SAE's own folder or file, or a release with an "
        "sae_id."
    )


def load_local(path: Path, device: str = "cpu") -> Sae:
    """Load an SAE or transcoder in float32 from a folder or file in any format of `locate`.

    Raises:
        CheckpointError: the format is unknown, a file is missing, or the weights do not belong together.
    """
    found = locate(path)
    sae_class = import_sae_lens().SAE
    reader = {} if found.format == "sae_lens" else {"converter": _reader(found)}
    try:
        with warnings.catch_warnings():
            # `binding.py` tells what this is about where the SAE is used.
            warnings.filterwarnings(
                "ignore", message="(?s).*non-empty model_from_pretrained_kwargs"
            )
            sae = sae_class.load_from_disk(path, device=device, dtype="float32", **reader)
    except CheckpointError:
        raise
    except Exception as error:  # the loaders raise whatever their formats' readers raise
        first = str(error).splitlines()[0] if str(error) else "no message"
        raise CheckpointError(
            f"the {found.format} SAE {path} cannot be loaded ({type(error).__name__}: {first}); fetch it again, or "
            "check that the folder is named as in its release."
        ) from error
    if found.format == "llama_scope":
        sae.fold_activation_norm_scaling_factor(_llama_scale(path))
    return sae


Read = Callable[..., tuple[dict[str, Any], dict[str, Tensor]]]


def _reader(found: LocalSae) -> Read:
    """A loader as sae-lens' `load_from_disk` takes it."""
    loaders: Any = import_sae_lens("sae_lens.loading.pretrained_sae_loaders")

    def read(
        path: str | Path,  # noqa: ARG001 - `found` says it in the loader's terms
        device: str = "cpu",
        cfg_overrides: dict[str, Any] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        load = loaders.NAMED_PRETRAINED_SAE_LOADERS[found.format]
        with _hub_is(found.root, loaders):
            cfg, state, _ = load(found.repository, found.inside, device, False, cfg_overrides)
        return _mended(cfg, {name: tensor.contiguous() for name, tensor in state.items()})

    return read


@contextmanager
def _hub_is(root: Path, loaders: Any) -> Generator[None]:
    """Let sae-lens' loaders find below a folder what they would fetch."""
    hub_errors = import_sae_lens("huggingface_hub.utils")

    def find(repo_id: str, filename: str, subfolder: str | None = None, **_: object) -> str:
        path = root / (subfolder or "") / filename
        if not path.is_file():
            raise hub_errors.EntryNotFoundError(f"{path} is missing ({repo_id})")
        return str(path)

    fetch = loaders.hf_hub_download
    loaders.hf_hub_download = find
    try:
        yield
    finally:
        loaders.hf_hub_download = fetch


def _mended(
    cfg: dict[str, Any], state: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Sizes by the weights, and the decoder with features first."""
    d_in, d_sae = state["W_enc"].shape
    if state["W_dec"].shape[0] != d_sae and state["W_dec"].shape[1] == d_sae:
        state["W_dec"] = state["W_dec"].T.contiguous()
    if state["W_dec"].shape[0] != d_sae:
        raise CheckpointError(
            f"the encoder has {d_sae} features and the decoder {tuple(state['W_dec'].shape)}; the files are not of one SAE."
        )
    cfg = {**cfg, "d_in": d_in, "d_sae": d_sae}
    if "d_out" in cfg:
        cfg["d_out"] = state["W_dec"].shape[1]
    return cfg, state


def _gemma_root(path: Path) -> Path:
    """The folder named as the repository, which says the model and whether the SAE is of the residual stream."""
    for folder in path.parents:
        if "gemma-scope" in folder.name:
            return folder
    raise CheckpointError(
        f"{path} has Gemma Scope's files, but no folder above it is named as its repository, such as "
        "gemma-scope-2b-pt-res, which says the model; keep the repository's folders."
    )


def _llama_scale(path: Path) -> float:
    """What Llama Scope multiplies activations by: the root of the width over their mean norm."""
    settings = json.loads((path / "hyperparams.json").read_text())
    return settings["d_model"] ** 0.5 / settings["dataset_average_activation_norm"]["in"]
