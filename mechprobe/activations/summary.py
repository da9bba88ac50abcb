"""A store on one screen."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from mechprobe.activations.store import ActivationStore
from mechprobe.activations.token_columns import norm_column

_CONFIG = ("model", "model_digest", "model_dtype", "window", "roles", "sections", "transcripts")


def summary_lines(store: ActivationStore) -> Iterator[str]:
    """What a store holds: its shape, its tokens by role and section, its bytes and statistics."""
    files = [stamp.bytes for shard in store.shards for stamp in shard.files.values()]
    conversations = len(store.transcript_ids)
    yield f"{store.folder}: {store.n_tokens:,} tokens of {conversations:,} conversations, {store.dtype}"
    yield (
        f"{len(store.shards)} shards, {sum(files) / 1e6:,.1f} MB, digest {store.digest[:16]}; "
        f"{store.n_dropped} texts that the chat template left out"
    )
    for name in _CONFIG:
        if (value := store.config.get(name)) is not None:
            yield f"  {name}: {str(value)[:80]}"
    yield from _records(store)
    yield from _counts(store)
    yield from _hooks(store)


def _records(store: ActivationStore) -> Iterator[str]:
    for name, value in store.record.items():
        if name == "packages":
            value = ", ".join(f"{package} {version}" for package, version in value.items())
        yield f"  {name}: {str(value)[:110]}"


def _counts(store: ActivationStore) -> Iterator[str]:
    tokens: Any = store.tokens
    if {"role", "section"} <= set(tokens):
        yield "tokens by role and section:"
        counts = tokens.groupby(["role", "section"], observed=True).size()
        for (role, section), count in counts.items():
            yield f"  {role:<10}{section:<10}{count:>12,}  {count / store.n_tokens:6.1%}"


def _hooks(store: ActivationStore) -> Iterator[str]:
    yield f"{'hook point':<28}{'width':>6}{'norm: median':>14}{'largest':>12}{'mean of sd':>12}"
    tokens: Any = store.tokens
    for name, width in store.hooks.items():
        norms = tokens[norm_column(name)].to_numpy()
        deviation = store.moments(name).variance.sqrt().mean().item()
        yield f"{name:<28}{width:>6}{np.median(norms):>14.4g}{norms.max():>12.4g}{deviation:>12.4g}"
    n_sinks = int(tokens["is_sink"].sum())
    yield f"attention sinks, by their norms: {n_sinks:,} tokens ({n_sinks / store.n_tokens:.2%})"
