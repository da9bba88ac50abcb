"""Pages for 4 096 features on a million tokens: how long, how much memory, and what the same pages cost by scanning."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from benchmarks.memory import peak_mib
from benchmarks.timing import Row, compare, less_is_better
from mechprobe.activations.durable import write_json_durably
from mechprobe.activations.shards import (
    SCHEMA,
    commit_shard,
    safetensors_chunks,
    shard_name,
)
from mechprobe.reports.feature_browser import FeatureFacts, write_feature_browser
from mechprobe.saes.codes import pack_rows
from mechprobe.saes.describing.company import indicator_company
from mechprobe.saes.describing.descriptions import describe_features
from mechprobe.saes.describing.directions import logit_lens, nearest_rows
from mechprobe.saes.examples import TokenContext
from mechprobe.saes.features import HEADER_NAME, KIND, FeatureStore

N_TOKENS, SHARD, D_SAE, K = 1_000_000, 50_000, 4_096, 32
D_MODEL, VOCABULARY, TALK, N_INDICATORS = 512, 32_000, 2_000, 18
BUDGET_S, BUDGET_MIB = 180.0, 4096.0
N_SCANNED = 16
COMMAND = "python -m benchmarks.run feature_pages"


def measure() -> list[Row]:
    """Made-up codes with Zipfian words and densities; the time includes sorting the activations by feature."""
    with tempfile.TemporaryDirectory() as name:
        rng = np.random.default_rng(0)
        features = made_features(Path(name) / "features", rng)
        tokens = made_tokens(rng)
        start, cpu_start = time.perf_counter(), time.process_time()
        peak = peak_mib(lambda: write_pages(features, tokens, Path(name) / "features.html"))
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        size = (Path(name) / "features.html").stat().st_size / 2**20
        some = list(range(0, D_SAE, D_SAE // N_SCANNED))
        whole = features.csr()

        def by_index() -> list[np.ndarray]:
            return [one.bars for one in describe_features(features, tokens, chosen=some)]

        def by_scan() -> list[np.ndarray]:
            return [np.sort(np.asarray(whole[:, feature].todense()).ravel()) for feature in some]

        row = compare(
            f"feature_descriptions[{N_TOKENS} tokens d_sae={D_SAE} k={K}]",
            by_index,
            by_scan,
            amount=N_SCANNED,
            unit="features",
            peer_name="only reading and sorting one column of the rows, held in memory",
            command=COMMAND,
            rounds=3,
        )
    shape = f"{D_SAE} features, {N_TOKENS} tokens, page of {size:.0f} MiB"
    return [
        row,
        budget_row(f"feature_pages[{shape}]", seconds, BUDGET_S, "s"),
        budget_row(f"feature_pages_cpu[{shape}]", cpu_seconds, BUDGET_S, "CPU s"),
        budget_row(f"feature_pages_memory[{shape}]", peak, BUDGET_MIB, "MiB"),
    ]


def write_pages(features: FeatureStore, tokens: TokenContext, path: Path) -> Path:
    """Everything that a run's page has, with made-up rows and labels."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(D_SAE, D_MODEL, generator=generator)
    unembed = torch.randn(VOCABULARY, D_MODEL, generator=generator)
    inside = {f"indicator_{at}": np.arange(N_TOKENS) % 997 == 31 * at for at in range(N_INDICATORS)}
    return write_feature_browser(
        path,
        describe_features(features, tokens),
        made_words,
        title="made",
        hook_name="blocks.0.hook_out",
        facts=FeatureFacts(
            company=indicator_company(features, inside),
            lens=logit_lens(rows, unembed),
            neighbours=nearest_rows(rows),
        ),
    )


def made_words(ids: Sequence[int]) -> list[str]:
    """A word for each token."""
    return [f" w{token}" for token in ids]


def made_tokens(rng: np.random.Generator) -> TokenContext:
    """Words by Zipf's law in conversations of TALK tokens."""
    conversations = np.arange(N_TOKENS) // TALK
    names = [f"t{number}" for number in range(N_TOKENS // TALK)]
    return TokenContext(
        token_ids=np.minimum(rng.zipf(1.3, N_TOKENS) - 1, VOCABULARY - 1),
        conversations=conversations,
        transcript_ids=pd.Series(pd.Categorical.from_codes(conversations, names)),
    )


def made_features(folder: Path, rng: np.random.Generator) -> FeatureStore:
    """K features a token, drawn so that density falls over the features as in a trained SAE: 1 in 4 to 1 in 10 000."""
    folder.mkdir()
    share = np.geomspace(1.0, 4e-4, D_SAE)
    header = {"kind": KIND, "schema": SCHEMA, "hook_name": "blocks.0.hook_out", "d_sae": D_SAE}
    header |= {"n_shards": N_TOKENS // SHARD, "digest": "made"}
    write_json_durably(folder / HEADER_NAME, header)
    edges = np.cumsum(share) / share.sum()
    for index in range(N_TOKENS // SHARD):
        drawn = np.searchsorted(edges, rng.random((SHARD, K))).clip(0, D_SAE - 1)
        commit_shard(
            folder,
            shard_name(index),
            {".safetensors": safetensors_chunks(pack_rows(_codes(drawn, rng), _rows(index)))},
            kind=KIND,
            config="made",
            n_rows=SHARD,
            facts={},
        )
    return FeatureStore.open(folder)


def _rows(index: int) -> np.ndarray:
    return np.arange(index * SHARD, (index + 1) * SHARD)


def _codes(drawn: np.ndarray, rng: np.random.Generator) -> sp.csr_matrix:
    token = np.repeat(np.arange(SHARD), K)
    value = rng.lognormal(sigma=0.7, size=token.size).astype(np.float32)
    # What is drawn twice at a token is one activation.
    codes = sp.csr_matrix((value, (token, drawn.ravel())), shape=(SHARD, D_SAE))
    codes.sum_duplicates()
    return codes


def budget_row(name: str, used: float, budget: float, unit: str) -> Row:
    """What was used of a budget; ratio > 1 means within."""
    return less_is_better(name, used, budget, unit=unit, peer_name="the budget", command=COMMAND)
