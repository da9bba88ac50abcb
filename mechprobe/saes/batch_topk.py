"""BatchTopK (arXiv 2412.06410) by its cut-off, which moves little from batch to batch and is found among few numbers.

sae-lens sorts out the largest of all tokens x features at each step, a quarter of the time of a training step.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

_MARGIN = 0.8
"""The next cut-off is looked for above this share of the last one; if it is lower, all numbers are looked at."""


class BatchTopK(nn.Module):
    """Keeps the k x n_tokens largest positive activations of a batch, as sae-lens' module of this name does."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self._floor = 0.0

    def forward(self, hidden_pre: Float[Tensor, "*case d_sae"]) -> Float[Tensor, "*case d_sae"]:
        """The kept activations, the others set to zero."""
        acts = hidden_pre.relu()
        with torch.no_grad():
            cutoff = self._cutoff(acts, self.k * acts.shape[:-1].numel())
            kept = (acts >= cutoff).to(acts.dtype)
        return acts * kept

    def _cutoff(self, acts: Tensor, n_kept: int) -> float:
        candidates = acts[acts > self._floor]
        if len(candidates) < n_kept:
            candidates = acts[acts > 0]
        if len(candidates) == 0:
            return float("inf")
        n_kept = min(n_kept, len(candidates))
        cutoff = float(candidates.topk(n_kept, sorted=False).values.min())
        self._floor = _MARGIN * cutoff
        return cutoff
