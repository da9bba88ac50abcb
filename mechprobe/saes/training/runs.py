"""Training SAEs on rows of an activation store, several in one pass, saved in sae-lens' file format.

The classes, the loss, the initial weights and the files are sae-lens'; the rows, their order, the steps of TopK and its
kin and what is kept for going on after a kill are ours. BatchTopK: arXiv 2412.06410; TopK: arXiv 2406.04093;
Matryoshka: arXiv 2503.17547; gated: arXiv 2404.16014; JumpReLU with a quadratic penalty around a target L0: Gemma
Scope 2; L1: Anthropic's April 2024 update.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from mechprobe.activations.store import ActivationStore, Rows
from mechprobe.errors import CheckpointError, ConfigError
from mechprobe.records import digest_json, is_current, make_record, write_record
from mechprobe.saes.checkpoints import CONFIG_NAME, save_sae
from mechprobe.saes.lens import Sae, import_sae_lens
from mechprobe.saes.training.config import SaeConfig
from mechprobe.saes.training.live import LiveLine
from mechprobe.saes.training.progress import FOLDER, clear_progress, load_progress, save_progress
from mechprobe.saes.training.reading import Spread, TrainingRows
from mechprobe.saes.training.trainer import Trainer
from mechprobe.saes.training.untrained import untrained_sae

STAGE = "sae"
SAVE_SECONDS = 120.0
"""How often the state of a run is kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SaeJob:
    """One SAE to train."""

    hook_name: str
    config: SaeConfig
    out: Path
    """Its folder."""


def train_sae(
    store: ActivationStore,
    hook_name: str,
    config: SaeConfig,
    out: Path,
    rows: Rows = None,
    *,
    save_seconds: float = SAVE_SECONDS,
) -> Path:
    """Train an SAE on the rows of a hook point and save it in sae-lens' format; see `train_saes`."""
    job = SaeJob(hook_name=hook_name, config=config, out=out)
    return train_saes(store, [job], rows, save_seconds=save_seconds)[0]


def train_saes(
    store: ActivationStore,
    jobs: Sequence[SaeJob],
    rows: Rows = None,
    *,
    save_seconds: float = SAVE_SECONDS,
) -> list[Path]:
    """Train SAEs in one pass over the rows; those that are there already are left as they are.

    A run that was killed goes on from its last state, to the same weights bit for bit on a CPU.

    Args:
        save_seconds: how often the state is kept.

    Raises:
        CheckpointError: a folder is one of something else, or the state of a killed run is damaged.
        ConfigError: the SAEs read different batches.
        ShapeError: no rows are selected.
        StoreError: the activations cannot be learned from.
    """
    inputs = {"store": store.digest, "rows": digest_json(store.row_numbers(rows).tolist())}
    wanted = [job for job in jobs if not _is_trained(job, inputs)]
    if wanted:
        for job in wanted:
            _check_folder(job.out)
        progress = wanted[0].out / FOLDER
        run = digest_json([[_settings(job) for job in wanted], inputs])
        keeping = _Keeping(folder=progress, run=run, seconds=save_seconds)
        for job, sae in zip(wanted, _fit(store, wanted, rows, keeping), strict=True):
            _save(job, sae, inputs)
        clear_progress(progress)
    return [job.out for job in jobs]


def fit_sae(store: ActivationStore, hook_name: str, config: SaeConfig, rows: Rows = None) -> Sae:
    """Train an SAE and return it as sae-lens' training class, its input scaling folded into the weights."""
    return _fit(store, [SaeJob(hook_name=hook_name, config=config, out=Path())], rows, None)[0]


def save_trained(sae: Sae, out: Path, dtype: str) -> None:
    """Save a trained SAE as the class that is used afterwards."""
    sae_lens, trained = import_sae_lens(), cast(Any, sae)
    scratch = out / ".training"
    try:
        trained.save_inference_model(scratch)
        save_sae(sae_lens.SAE.load_from_disk(scratch), out, dtype=dtype)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Keeping:
    """Where and how often the state of a run is kept."""

    folder: Path
    run: str
    seconds: float


def _fit(
    store: ActivationStore, jobs: Sequence[SaeJob], rows: Rows, keeping: _Keeping | None
) -> list[Sae]:
    reading = _reading(store, jobs, rows)
    trainers, position = _begun(store, jobs, reading, keeping)
    names = ", ".join(reading.hook_names)
    saved = time.monotonic()
    done = max(trainer.n_steps for trainer in trainers)
    with LiveLine(trainers, f"SAE at {names}", done=done) as line:
        for batch in reading.batches(position):
            active = [pair for pair in zip(trainers, jobs, strict=True) if not pair[0].is_done]
            if not active:
                break
            for trainer, job in active:
                trainer.step(batch[job.hook_name])
            position += 1
            line.update()
            if keeping is not None and time.monotonic() - saved >= keeping.seconds:
                _keep(keeping, trainers, position)
                saved = time.monotonic()
    return [trainer.finish() for trainer in trainers]


def _reading(store: ActivationStore, jobs: Sequence[SaeJob], rows: Rows) -> TrainingRows:
    orders = {(job.config.batch_size, job.config.reading_seed) for job in jobs}
    if len(orders) > 1:
        raise ConfigError(
            f"SAEs of one pass read the same batches, but batch_size and order are {sorted(orders)}; give all the "
            "same batch_size and order_seed."
        )
    batch_size, seed = orders.pop()
    names = [job.hook_name for job in jobs]
    return TrainingRows.of(store, rows, names, batch_size=batch_size, seed=seed)


def _begun(
    store: ActivationStore,
    jobs: Sequence[SaeJob],
    reading: TrainingRows,
    keeping: _Keeping | None,
) -> tuple[list[Trainer], int]:
    """Trainers at their first step, or where the run was killed, and the batches that were read."""
    kept = load_progress(keeping.folder, keeping.run) if keeping is not None else None
    sample = reading.sample()
    spreads = {name: Spread.of(acts) for name, acts in sample.items()}
    trainers = [_trainer(store, job, spreads[job.hook_name]) for job in jobs]
    if kept is None:
        return trainers, reading.n_sample()
    for index, trainer in enumerate(trainers):
        trainer.restore(kept.tensors[str(index)], kept.numbers[str(index)])
    return trainers, kept.position


def _trainer(store: ActivationStore, job: SaeJob, spread: Spread) -> Trainer:
    scale = spread.scale if job.config.scale_inputs else 1.0
    sae = untrained_sae(
        job.config,
        d_in=store.width(job.hook_name),
        mean=spread.mean * scale,
        hook_name=job.hook_name,
        model_name=store.config.get("model", ""),
        activations=store.digest,
    )
    return Trainer(sae, job.config, scale=scale)


def _keep(keeping: _Keeping, trainers: Sequence[Trainer], position: int) -> None:
    states = {str(index): trainer.state() for index, trainer in enumerate(trainers)}
    save_progress(keeping.folder, keeping.run, position, states)


def _settings(job: SaeJob) -> dict[str, Any]:
    return {"hook_name": job.hook_name, **asdict(job.config)}


def _is_trained(job: SaeJob, inputs: dict[str, str]) -> bool:
    return (job.out / CONFIG_NAME).is_file() and is_current(job.out, STAGE, _settings(job), inputs)


def _check_folder(out: Path) -> None:
    others = [path for path in out.iterdir() if path.name != FOLDER] if out.is_dir() else []
    if others and not (out / CONFIG_NAME).is_file():
        raise CheckpointError(f"{out} is not empty and holds no SAE; train into a new folder.")


def _save(job: SaeJob, sae: Sae, inputs: dict[str, str]) -> None:
    config = job.config
    (job.out / "record.json").unlink(missing_ok=True)
    save_trained(sae, job.out, config.dtype)
    metrics = {
        "train_l0": sae.cfg.metadata.l0,
        "n_samples": config.n_steps * config.batch_size,
    }
    record = make_record(STAGE, _settings(job), seed=config.seed, inputs=inputs, metrics=metrics)
    write_record(job.out, record)
