"""sae-lens' own activation cache, without its model: the shards that CacheActivationsRunner writes and reads."""

import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from mechprobe.saes.lens import import_sae_lens

HOOK = "blocks.0.hook_out"
CONTEXT = 128


def quiet_datasets() -> None:
    """No progress bars while timing."""
    import datasets

    datasets.disable_progress_bars()


def write_cache(acts: Tensor, token_ids: Tensor, folder: Path) -> None:
    """Write activations [tok, d] as sae-lens' runner does: one shard, then its consolidation."""
    from datasets import Array2D, Features, Sequence, Value

    runner = import_sae_lens().CacheActivationsRunner
    n_sequences, width = len(acts) // CONTEXT, acts.shape[1]
    stand_in: Any = SimpleNamespace(
        cfg=SimpleNamespace(hook_name=HOOK, n_seq_in_buffer=n_sequences, d_in=width),
        context_size=CONTEXT,
        features=Features(
            {
                HOOK: Array2D(shape=(CONTEXT, width), dtype="float32"),
                "token_ids": Sequence(Value(dtype="int32"), length=CONTEXT),
            }
        ),
    )
    shutil.rmtree(folder, ignore_errors=True)
    shards = folder / ".tmp_shards"
    shards.mkdir(parents=True)
    runner._create_shard(stand_in, (acts, token_ids)).save_to_disk(
        str(shards / "shard_00000"), num_shards=1
    )
    runner._consolidate_shards(shards, folder, copy_files=False)


def open_cache(folder: Path, width: int, batch_sequences: int) -> Any:
    """sae-lens' ActivationsStore over what `write_cache` wrote."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_sae_lens().ActivationsStore(
            model=torch.nn.Identity(),
            dataset=None,
            streaming=False,
            hook_name=HOOK,
            hook_head_index=None,
            context_size=CONTEXT,
            d_in=width,
            n_batches_in_buffer=1,
            total_training_tokens=1 << 30,
            store_batch_size_prompts=batch_sequences,
            train_batch_size_tokens=1024,
            prepend_bos=False,
            normalize_activations="none",
            device=torch.device("cpu"),
            dtype="float32",
            cached_activations_path=str(folder),
        )
