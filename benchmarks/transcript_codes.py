"""Real sparse codes: features of real transcripts, as a finished study of `analyses/transcripts.toml` left them."""

import json
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from mechprobe.activations.rows import span_table
from mechprobe.activations.store import ActivationStore
from mechprobe.probes.labels.token_labels import label_tokens
from mechprobe.saes.features import FeatureStore
from mechprobe.transcripts.jsonl import read_transcripts

MIN_POSITIVES = 5


def transcript_codes(run: Path, n_tokens: int, seed: int = 0) -> tuple[sp.csr_matrix, np.ndarray]:
    """Codes of labelled tokens drawn from a run, and the labels of its indicators (1, 0, -1 left out)."""
    transcripts = list(read_transcripts(run / "transcripts" / "transcripts.jsonl"))
    store = ActivationStore.open(run / "store")
    indicators = sorted({span.indicator for t in transcripts for span in t.spans})
    spans = span_table(store.tokens, transcripts)
    labelled = label_tokens(store.tokens, spans, transcripts, indicators)
    labels = labelled.labels[:, : len(indicators)]
    marked = np.flatnonzero((labels == 1).any(axis=1))
    rng = np.random.default_rng(seed)
    marked = rng.choice(marked, min(len(marked), n_tokens // 2), replace=False)
    others = np.setdiff1d(np.arange(len(labels)), marked)
    kept = np.sort([*marked, *rng.choice(others, n_tokens - len(marked), replace=False)])
    labels = labels[kept]
    labels = labels[:, (labels == 1).sum(axis=0) >= MIN_POSITIVES]
    features = json.loads((run / "saes" / "record.json").read_text())["metrics"]["hook_name"]
    codes = FeatureStore.open(run / "features" / f"transcripts-{features}")
    return codes.csr(labelled.rows[kept]), labels
