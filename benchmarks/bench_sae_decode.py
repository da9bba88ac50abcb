"""Reconstructing activations from k active features each: gathered rows against sae-lens' dense product."""

import torch

from benchmarks.timing import Row, compare
from mechprobe.saes.decoding import decode_sparse
from mechprobe.saes.encoding import encode_rows
from mechprobe.saes.lens import import_sae_lens

N_TOKENS, WIDTH, D_SAE, K = 2048, 512, 8192, 32


def measure() -> Row:
    """A TopK SAE of random weights; the outputs are compared before the time is."""
    sae_lens = import_sae_lens()
    torch.manual_seed(0)
    sae = sae_lens.TopKSAE(sae_lens.TopKSAEConfig(d_in=WIDTH, d_sae=D_SAE, k=K))
    acts = torch.randn(N_TOKENS, WIDTH)
    sparse = encode_rows(sae, acts)
    with torch.no_grad():
        dense = sae.encode(acts)
        gap = (decode_sparse(sae, sparse) - sae.decode(dense)).abs().max()
        assert gap < 1e-3, f"the two decodings differ by {gap}"
        return compare(
            f"sae_decode[{N_TOKENS}x{WIDTH} d_sae={D_SAE} k={K}]",
            lambda: decode_sparse(sae, sparse),
            lambda: sae.decode(dense),
            amount=N_TOKENS / 1e3,
            unit="k tokens",
            peer_name="sae-lens decode",
            command="python -m benchmarks.run sae_decode",
        )
