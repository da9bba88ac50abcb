"""Embeddings of texts and tokens by a loaded model: what `embedding_baseline` and the token baselines read."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.baselines.embeddings import Embed
from mechprobe.models.batches import TokenBatch, length_sorted_batches
from mechprobe.models.loading import quiet_vendors
from mechprobe.models.subject import Subject
from mechprobe.models.windows import Window, cut_windows

TOKEN_EMBEDDINGS = "hook_embed"
"""Hook point of the token embeddings, before positions are added."""


def sentence_embedder(
    subject: Subject, hook_name: str | None = None, *, batch_tokens: int = 2048
) -> Embed:
    """Mean of a model's activations over all tokens of a text, at unit length.

    With the encoder all-MiniLM-L6-v2 and texts within its window, this is the sentence embedding that it was trained
    for, special tokens included. A longer text is read in windows, where sentence-transformers cuts it off.

    Args:
        hook_name: None for what the last block writes.
        batch_tokens: padded tokens in a forward pass.
    """
    site = subject.resolve(hook_name or f"blocks.{subject.n_layers - 1}.hook_resid_post")
    return lambda texts: _unit(_mean_acts(subject, site, texts, batch_tokens, special=True))


def token_embedder(subject: Subject, *, batch_tokens: int = 2048) -> Embed:
    """Mean of the token embeddings of a text, without special tokens: blind to the order of its tokens."""
    site = subject.resolve(TOKEN_EMBEDDINGS)
    return lambda texts: _mean_acts(subject, site, texts, batch_tokens, special=False)


def token_vectors(
    subject: Subject, token_ids: Int[np.ndarray, "tok"], *, batch_tokens: int = 2048
) -> Callable[[Int[np.ndarray, "row"]], Float[np.ndarray, "row d"]]:
    """The embedding layer of a store that does not hold it: how to read some rows, by the tokens that stand there.

    Args:
        token_ids: column `token_id` of the store's token table.
    """
    distinct, number = np.unique(token_ids, return_inverse=True)
    site = subject.resolve(TOKEN_EMBEDDINGS)
    # A token alone in its sequence: its embedding depends on nothing else.
    parts = [
        subject.capture(TokenBatch.of([[int(one)] for one in part], subject.pad_id), [site])[site]
        for part in np.array_split(distinct, max(1, -(-len(distinct) // batch_tokens)))
        if len(part)
    ]
    table = torch.cat(parts)[:, 0].float().cpu().numpy() if parts else np.zeros((0, 1), np.float32)
    return lambda rows: table[number[rows]]


def _mean_acts(
    subject: Subject, site: str, texts: Sequence[str], batch_tokens: int, *, special: bool
) -> Float[np.ndarray, "text d"]:
    """Mean over the tokens of all windows of a text; 0 for a text without tokens."""
    windows = [
        (number, window) for number, text in enumerate(texts) for window in _windows(subject, text)
    ]
    sums = torch.zeros(len(texts), subject.width(site), dtype=torch.float64)
    counts = torch.zeros(len(texts), dtype=torch.float64)
    lengths = [len(window.token_ids) for _, window in windows]
    for group in length_sorted_batches(lengths, batch_tokens):
        batch = TokenBatch.of([windows[at][1].token_ids.tolist() for at in group], subject.pad_id)
        acts = subject.capture(batch, [site])[site].double().cpu()
        for row, at in enumerate(group):
            number, window = windows[at]
            is_read = torch.from_numpy(window.tokens >= 0)
            kept = acts[row, : lengths[at]][is_read | special]
            sums[number] += kept.sum(dim=0)
            counts[number] += len(kept)
    means: Tensor = sums / counts.clamp(min=1)[:, None]
    return means.float().numpy()


def _windows(subject: Subject, text: str) -> tuple[Window, ...]:
    with quiet_vendors():
        ids = subject.tokenizer(text, add_special_tokens=False)["input_ids"]
    limits = [limit for limit in (subject.window, subject.max_positions) if limit is not None]
    found = cut_windows(np.array(ids, dtype=np.int64), subject.tokenizer, min(limits, default=None))
    return tuple(window for window in found if len(window.token_ids))


def _unit(rows: Float[np.ndarray, "text d"]) -> Float[np.ndarray, "text d"]:
    """Rows of length 1; rows of zeros stay."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)
