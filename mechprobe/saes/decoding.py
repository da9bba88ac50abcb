"""Reconstruction from sparse features: only the rows of active features are read."""

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import embedding_bag

from mechprobe.saes.lens import Sae, decoder_rows


def decode_sparse(sae: Sae, features: sp.csr_matrix) -> Float[Tensor, "tok d_in"]:
    """What the SAE decodes the features of each row to, as `sae.decode` does from dense features.

    Raises:
        CheckpointError: the SAE's features have no fixed direction.
    """
    rows = decoder_rows(sae).detach()
    bags = embedding_bag(
        torch.from_numpy(features.indices.astype(np.int64, copy=False)),
        rows,
        offsets=torch.from_numpy(features.indptr.astype(np.int64, copy=False)),
        per_sample_weights=torch.from_numpy(features.data).to(rows.dtype),
        mode="sum",
        include_last_offset=True,
    )
    return bags + sae.b_dec.detach()
