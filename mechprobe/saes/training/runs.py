"""Training an SAE on rows of an activation store, with sae-lens' trainer and file format.

sae-lens steps, schedules and saves; the rows, their order, the normalisation estimate and the progress bar are
ours, because its own reader knows no selection of tokens. BatchTopK: arXiv 2412.06410; TopK: arXiv 2406.04093;
JumpReLU with a quadratic penalty around a target L0: Gemma Scope 2; L1: Anthropic's April 2024 update.
"""

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from mechprobe.activations.store import ActivationStore, Rows
from mechprobe.errors import CheckpointError
from mechprobe.records import digest_json, is_current, make_record, write_record
from mechprobe.saes.batch_topk import BatchTopK
from mechprobe.saes.checkpoints import CONFIG_NAME, save_sae
from mechprobe.saes.lens import Sae, import_sae_lens
from mechprobe.saes.training.config import SaeConfig

STAGE = "sae"
_NORM_BATCHES = 64


def train_sae(
    store: ActivationStore, hook_name: str, config: SaeConfig, out: Path, rows: Rows = None
) -> Path:
    """Train an SAE on the rows of a hook point and save it in sae-lens' format; nothing if that was done.

    Raises:
        CheckpointError: `out` is a folder of something else.
        ShapeError: no rows are selected.
    """
    numbers = store.row_numbers(rows)
    inputs = {"store": store.digest, "rows": digest_json(numbers.tolist())}
    settings = {"hook_name": hook_name, **asdict(config)}
    if is_current(out, STAGE, settings, inputs) and (out / CONFIG_NAME).is_file():
        return out
    if out.is_dir() and any(out.iterdir()) and not (out / CONFIG_NAME).is_file():
        raise CheckpointError(f"{out} is not empty and holds no SAE; train into a new folder.")
    trained = fit_sae(store, hook_name, config, rows)
    (out / "record.json").unlink(missing_ok=True)
    save_trained(trained, out, config.dtype)
    metrics = {"train_l0": trained.cfg.metadata.l0, "n_samples": config.n_steps * config.batch_size}
    write_record(
        out, make_record(STAGE, settings, seed=config.seed, inputs=inputs, metrics=metrics)
    )
    return out


def fit_sae(store: ActivationStore, hook_name: str, config: SaeConfig, rows: Rows = None) -> Sae:
    """Train an SAE and return it as sae-lens' training class, its input scaling folded into the weights."""
    sae_lens = import_sae_lens()
    batches = store.batches(
        hook_name, rows, batch_size=config.batch_size, seed=config.seed, epochs=None
    )
    mean, spread = _mean_and_spread(islice(batches, _norm_batches(store, rows, config)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        sae = _untrained(sae_lens, config, store, hook_name)
        trainer = _trainer(sae_lens, sae, config, batches)
        scale = sae.cfg.d_in**0.5 / spread
        trainer.activation_scaler.scaling_factor = scale
        with torch.no_grad():
            sae.b_dec.copy_(mean * scale)
        _run_steps(trainer, batches, config, hook_name)
    sae.fold_activation_norm_scaling_factor(scale)
    trainer.set_final_sae_metadata()
    return sae.eval()


def save_trained(sae: Sae, out: Path, dtype: str) -> None:
    """Save a trained SAE as the class that is used afterwards."""
    sae_lens, trained = import_sae_lens(), cast(Any, sae)
    scratch = out / ".training"
    try:
        trained.save_inference_model(scratch)
        save_sae(sae_lens.SAE.load_from_disk(scratch), out, dtype=dtype)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _norm_batches(store: ActivationStore, rows: Rows, config: SaeConfig) -> int:
    in_one_pass = -(-len(store.row_numbers(rows)) // config.batch_size)
    return min(_NORM_BATCHES, in_one_pass)


def _mean_and_spread(batches: Iterator[Tensor]) -> tuple[Float[Tensor, "d"], float]:
    """Mean activation and mean distance from it, over some batches."""
    sample = torch.cat(list(batches))
    mean = sample.mean(0)
    return mean, max(float((sample - mean).norm(dim=-1).mean()), 1e-12)


def _untrained(sae_lens: Any, config: SaeConfig, store: ActivationStore, hook_name: str) -> Sae:
    shared: dict[str, Any] = {
        "d_in": store.width(hook_name),
        "d_sae": config.d_sae,
        "normalize_activations": "expected_average_only_in",
        "metadata": import_sae_lens("sae_lens.saes.sae").SAEMetadata(
            hook_name=hook_name,
            model_name=store.config.get("model", ""),
            activations=store.digest,
        ),
    }
    if config.architecture == "standard":
        return sae_lens.StandardTrainingSAE(
            sae_lens.StandardTrainingSAEConfig(
                l1_coefficient=config.sparsity, l1_warm_up_steps=config.n_steps // 10, **shared
            )
        )
    if config.architecture == "topk":
        return sae_lens.TopKTrainingSAE(sae_lens.TopKTrainingSAEConfig(k=config.k, **shared))
    if config.architecture == "batchtopk":
        # The threshold is a running mean from zero; its default rate is for runs of many thousand steps.
        rate = min(1.0, max(0.01, 10 / config.n_steps))
        sae = sae_lens.BatchTopKTrainingSAE(
            sae_lens.BatchTopKTrainingSAEConfig(k=config.k, topk_threshold_lr=rate, **shared)
        )
        sae.activation_fn = BatchTopK(config.k)
        return sae
    return sae_lens.JumpReLUTrainingSAE(
        sae_lens.JumpReLUTrainingSAEConfig(
            jumprelu_sparsity_loss_mode="quadratic",
            jumprelu_ste_to_input=True,
            target_l0=config.k,
            l0_coefficient=config.sparsity,
            l0_warm_up_steps=config.n_steps // 2,
            **shared,
        )
    )


def _trainer(sae_lens: Any, sae: Any, config: SaeConfig, batches: Iterator[Tensor]) -> Any:
    settings = import_sae_lens("sae_lens.config").SAETrainerConfig(
        total_training_samples=config.n_steps * config.batch_size,
        train_batch_size_samples=config.batch_size,
        lr=config.lr,
        lr_end=config.lr,
        lr_decay_steps=config.n_steps // 5,
        dead_feature_window=max(10, config.n_steps // 10),
        feature_sampling_window=config.n_steps + 1,
    )
    return sae_lens.SAETrainer(settings, sae, batches)


def _run_steps(trainer: Any, batches: Iterator[Tensor], config: SaeConfig, hook_name: str) -> None:
    with tqdm(
        total=config.n_steps * config.batch_size, unit="tok", unit_scale=True, disable=None
    ) as bar:
        bar.set_description(f"SAE at {hook_name}")
        for _ in range(config.n_steps):
            trainer.step(next(batches))
            trainer.n_training_steps += 1
            bar.update(config.batch_size)
