"""A model of the same shape that has learned nothing: what its activations tell needed no training."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from mechprobe.errors import ModelError
from mechprobe.models.loading import load_tokenizer, quiet_vendors
from mechprobe.models.subject import Subject


def load_untrained(
    model: str | Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    chat_template: str | None = None,
    window: int | None = None,
    revision: str | None = None,
) -> Subject:
    """A Subject with the configuration and tokenizer of a causal model and random initial weights.

    The weights are those of the library's own initialisation, as in the sanity checks of saliency maps and SAEs
    (arXiv 1810.03292; 2501.17727). The model lies in a temporary folder while it is loaded.

    Args:
        seed: of the weights; the global random state is left alone.

    Raises:
        ModelError: there is no such model, or it is no causal language model.
    """
    import transformers

    tokenizer = load_tokenizer(model, revision=revision)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / f"{Path(model).name}-untrained-{seed}"
        with quiet_vendors(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _initialised(transformers, model, revision).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        subject = Subject.load(
            folder, device=device, dtype=dtype, chat_template=chat_template, window=window
        )
        # The digest is of the folder's files, so it is taken while they exist.
        _ = subject.model_digest
    return subject


def _initialised(transformers: Any, model: str | Path, revision: str | None) -> Any:
    try:
        config = transformers.AutoConfig.from_pretrained(str(model), revision=revision)
        return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"no untrained model of the shape of {str(model)!r} can be made ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}); give the folder or hub name of a causal language model."
        ) from error
