"""The stages that read the model: activations of transcripts and pairs, an SAE, and its features."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from mechprobe.activations.capture import capture
from mechprobe.activations.store import ActivationStore
from mechprobe.activations.transcript_file import TranscriptFile
from mechprobe.evaluation.spans.span_building import pair_transcripts
from mechprobe.executors.settings import make_executor
from mechprobe.saes.checkpoints import check_fits
from mechprobe.saes.encoding import encode_store
from mechprobe.saes.features import FeatureStore
from mechprobe.saes.pretrained.binding import bind
from mechprobe.saes.quality import sae_quality
from mechprobe.saes.training.runs import train_sae
from mechprobe.study.run import Run
from mechprobe.study.stages import Stage
from mechprobe.transcripts.transcript import Transcript


def capture_stage(run: Run, transcripts_digest: str) -> Stage:
    """The stage that writes `store/`, and for an organism `pairs/store/`."""
    return Stage(
        name="capture",
        folder=run.folder / "capture",
        config=run.settings("capture", "loading"),
        inputs={"transcripts": transcripts_digest, "model": run.model_digest},
        run=lambda: _capture(run),
        partial=(run.folder / "store", run.folder / "pairs" / "store"),
    )


def sae_stage(run: Run, capture_digest: str) -> Stage:
    """The stage that writes `saes/`, `features/` and `sae_quality.parquet`."""
    return Stage(
        name="sae",
        folder=run.folder / "saes",
        config={**run.settings("sae", "sae_checkpoint"), "hook_name": run.feature_hook},
        inputs={"activations": capture_digest},
        run=lambda: _describe(run),
        outputs=(run.folder / "sae_quality.parquet",),
        partial=(run.folder / "saes" / run.feature_hook, run.folder / "features"),
        seed=run.config.sae.seed,
    )


def _capture(run: Run) -> Mapping[str, Any]:
    transcripts = TranscriptFile.open(run.folder / "transcripts" / "transcripts.jsonl")
    store = capture_into(run, transcripts[: run.config.capture.limit], run.folder / "store")
    metrics: dict[str, Any] = {
        "n_tokens": store.n_tokens,
        "store": store.digest,
        "parity": asdict(run.subject.parity),
    }
    if run.config.kind == "organism":
        sides = pair_transcripts(run.pairs)
        metrics["pairs"] = capture_into(run, sides, run.folder / "pairs" / "store").digest
    return metrics


def capture_into(run: Run, transcripts: Sequence[Transcript], out: Path) -> ActivationStore:
    """Capture transcripts as the study's settings say; a finished store is left as it is."""
    settings = run.config.capture
    return capture(
        transcripts,
        run.subject,
        run.hook_names,
        out,
        select=settings.select,
        dtype=settings.dtype,
        batch_tokens=settings.batch_tokens,
        executor=make_executor(settings.executor),
        say=run.say,
    )


def _describe(run: Run) -> Mapping[str, Any]:
    """Train or load the SAE, encode every store with it, and measure it."""
    hook_name = run.feature_hook
    if not run.config.sae_checkpoint:
        train_sae(run.store, hook_name, run.config.sae, run.folder / "saes" / hook_name)
    sae = run.sae
    check_fits(sae, run.store.width(hook_name), hook_name, resolve=run.subject.resolve)
    if run.config.sae_checkpoint:
        found = bind(sae, resolve=run.subject.resolve, width=run.store.width, hook_name=hook_name)
        for note in found.notes:
            run.say(f"the SAE at {hook_name}: {note}")
    features = encode_store(run.store, hook_name, sae, features_folder(run, "transcripts"))
    if run.config.kind == "organism":
        encode_store(run.pair_store, hook_name, sae, features_folder(run, "pairs"))
    quality: pd.DataFrame = sae_quality(run.store, features, sae, run.transcripts)
    quality.to_parquet(run.folder / "sae_quality.parquet")
    whole = quality.iloc[0]
    return {
        "hook_name": hook_name,
        "explained_variance": float(whole["explained_variance"]),
        "l0": float(whole["l0"]),
        "dead_share": float(whole["dead_share"]),
    }


def features_folder(run: Run, which: str) -> Path:
    """Where the features of "transcripts" or "pairs" lie."""
    return run.folder / "features" / f"{which}-{run.feature_hook}"


def open_features(run: Run, which: str) -> FeatureStore:
    """The features of "transcripts" or "pairs"."""
    return FeatureStore.open(features_folder(run, which))
