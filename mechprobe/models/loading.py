"""The door to transformers and TransformerLens: a model and its tokenizer from a folder or the hub, quietly."""

import copy
import importlib.util
import logging
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mechprobe.errors import ConfigError, ModelError
from mechprobe.models.fused import fused_twin
from mechprobe.models.parity import PlainPass, plain_pass
from mechprobe.records import digest_json, digest_tree

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""Devices that are none: the layers are spread over all GPUs in one of these ways (accelerate's names)."""
Device = str | Mapping[str, int | str]
"""One device, one of DEVICE_MAPS, or a map from the names of submodules to devices."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_VENDOR_ERRORS = (OSError, ValueError, KeyError, NotImplementedError, RuntimeError, ImportError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loading:
    """How a model was loaded, so that another process can load the same."""

    model: str | Path
    device: Device = "cpu"
    dtype: str = "float32"
    chat_template: str | None = None
    window: int | None = None
    revision: str | None = None

    def arguments(self) -> dict[str, Any]:
        """What `Subject.load` gets."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LoadedModel:
    """A model under its bridge, with what the plain model computed before."""

    bridge: Any
    plain: PlainPass
    config: Any
    is_causal: bool
    twin: Any | None
    """The plain model with fused attention over the same weights, where there is one."""


def load_tokenizer(model: str | Path, *, revision: str | None = None) -> Any:
    """The fast tokenizer of a local folder or hub model.

    Raises:
        ModelError: the folder is missing, or there is no fast tokenizer.
    """
    from transformers import AutoTokenizer

    folder = _local_folder(model)
    if folder and not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(
            f"{folder} has no tokenizer (looked for {', '.join(_TOKENIZER_FILES)}); save the model's tokenizer "
            "there with tokenizer.save_pretrained()."
        )
    with quiet_vendors(), _explained(f"the tokenizer of {str(model)!r}"):
        tokenizer = AutoTokenizer.from_pretrained(str(folder or model), revision=revision)
    if not tokenizer.is_fast:
        raise ModelError(
            f"the tokenizer of {str(model)!r} is a slow one, which cannot tell where its tokens stand in the text; "
            "convert it to a fast one (tokenizer.json)."
        )
    return tokenizer


def load_model(
    model: str | Path, tokenizer: Any, *, device: Device, dtype: str, revision: str | None
) -> LoadedModel:
    """The model in evaluation mode under TransformerLens' bridge.

    Spreading a model over several GPUs is accelerate's work and the bridge's; it was not tried on GPUs here.

    Raises:
        ConfigError: the dtype is not one of DTYPES.
        ModelError: the folder is missing, or the architecture is not supported.
    """
    import transformers
    from transformer_lens.model_bridge import TransformerBridge

    if dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}.")
    source = str(_local_folder(model) or model)
    with quiet_vendors(), _explained(f"model {str(model)!r}"):
        config = transformers.AutoConfig.from_pretrained(source, revision=revision)
        _refuse_installs(config, source)
        is_causal = _is_causal(config)
        loader: Any = (
            transformers.AutoModelForCausalLM if is_causal else transformers.AutoModelForMaskedLM
        )
        one = device if isinstance(device, str) and device not in DEVICE_MAPS else None
        plain = loader.from_pretrained(
            source,
            revision=revision,
            dtype=DTYPES[dtype],
            attn_implementation="eager",
            **({} if one else {"device_map": device}),
        )
        plain = (plain.to(one) if one else plain).eval()
        before = plain_pass(plain, config.get_text_config().vocab_size)
        twin = fused_twin(plain)
        bridge = TransformerBridge.boot_transformers(
            source,
            hf_model=plain,
            # The bridge adds special tokens to the tokenizer it is given.
            tokenizer=copy.deepcopy(tokenizer),
            device=one,
            dtype=DTYPES[dtype],
        )
    return LoadedModel(bridge=bridge, plain=before, config=config, is_causal=is_causal, twin=twin)


def digest_model(model: str | Path, config: Any) -> str:
    """What a record names the weights by: SHA-256 of a folder, or of the hub name and its commit."""
    folder = _local_folder(model)
    commit = getattr(config, "_commit_hash", None)
    return digest_tree(folder) if folder else digest_json([str(model), commit])


@contextmanager
def quiet_vendors() -> Generator[None, None, None]:
    """Silence progress bars and log lines of transformers and TransformerLens while active."""
    from transformers.utils import logging as vendor_logging

    level, has_bars = vendor_logging.get_verbosity(), vendor_logging.is_progress_bar_enabled()
    root_level = logging.getLogger().level
    vendor_logging.set_verbosity_error()
    vendor_logging.disable_progress_bar()
    logging.getLogger().setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.getLogger().setLevel(root_level)
        vendor_logging.set_verbosity(level)
        if has_bars:
            vendor_logging.enable_progress_bar()


@contextmanager
def _explained(what: str) -> Generator[None, None, None]:
    try:
        yield
    except _VENDOR_ERRORS as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{what} cannot be loaded ({type(error).__name__}: {reason}); give the folder of a Hugging Face model, or a "
            "hub name that is in the local cache or reachable."
        ) from error


def _local_folder(model: str | Path) -> Path | None:
    """The folder that is meant, None for a hub name."""
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"{path} has no config.json; give the folder that save_pretrained() wrote the model to."
            )
        return path
    names_path = isinstance(model, Path) or str(model).startswith((".", "~", os.sep))
    if names_path or path.exists() or str(model).count("/") > 1:
        raise ModelError(f"there is no model folder at {path}; check the path, or give a hub name.")
    return None


def _is_causal(config: Any) -> bool:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    names = list(config.architectures or [])
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        return True
    # BERT-like types stand in both tables; what is saved as an encoder is read as one.
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return False
    if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return True
    raise ModelError(
        f"model type {config.model_type!r} ({', '.join(names) or 'no architecture named'}) is neither a causal "
        "nor a masked language model; give a decoder or an encoder."
    )


def _refuse_installs(config: Any, source: str) -> None:
    """TransformerLens 3.9 runs `pip install torchvision` for multimodal models that lack it."""
    has_vision = getattr(config, "vision_config", None) is not None
    if has_vision and importlib.util.find_spec("torchvision") is None:
        raise ModelError(
            f"{source} is a multimodal model and torchvision is not installed; install it, or give the text-only model."
        )
