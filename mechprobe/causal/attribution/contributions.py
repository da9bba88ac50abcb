"""What each feature of each token brings to a number, with the SAE's error term as a row of its own."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import CheckpointError
from mechprobe.probes.matrix import size_of
from mechprobe.saes.encoding import encode_rows
from mechprobe.saes.lens import Sae, decoder_rows

_NUMBERS = 1 << 22
"""Numbers of decoder rows that are gathered at once."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Contributions:
    """Contributions in the units of the explained number; those of a token add up to its `total`."""

    hook_name: str
    method: str
    reference: str
    """What a contribution is counted from: "partner", the other side of the pair; "zero", the feature switched off."""
    case: Int[np.ndarray, "row"]
    """The run of each token."""
    position: Int[np.ndarray, "row"]
    """Where it stands in its run."""
    span: Int[np.ndarray, "row"]
    """Number of its span; -1 for none."""
    features: sp.csr_matrix
    """[row, d_sae]"""
    error: Float[np.ndarray, "row"]
    """Of what the SAE does not reconstruct."""
    constant: float = 0.0
    """What every token has in common: a probe's bias and what it reads in the decoder's bias."""

    @property
    def total(self) -> Float[np.ndarray, "row"]:
        """Features, error term and constant of each token together."""
        rows = np.asarray(self.features.sum(axis=1), dtype=np.float64).ravel()
        return rows + self.error + self.constant

    def summed(self, unit: Int[np.ndarray, "row"], n_units: int) -> "UnitContributions":
        """Sums over the tokens of each unit; tokens of unit -1 are left out."""
        used = np.flatnonzero(unit >= 0)
        shape = (n_units, len(unit))
        member = sp.csr_matrix((np.ones(len(used)), (unit[used], used)), shape=shape)
        n_tokens = np.bincount(unit[used], minlength=n_units)
        return UnitContributions(
            features=sp.csr_matrix(member @ self.features),
            error=member @ self.error,
            constant=self.constant * n_tokens,
        )

    def by_case(self, n_cases: int) -> "UnitContributions":
        """Sums over the tokens of each run."""
        return self.summed(self.case, n_cases)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class UnitContributions:
    """Contributions summed over the tokens of spans or of transcripts."""

    features: sp.csr_matrix
    """[unit, d_sae]"""
    error: Float[np.ndarray, "unit"]
    constant: Float[np.ndarray, "unit"]

    @property
    def total(self) -> Float[np.ndarray, "unit"]:
        """All that a unit's tokens bring."""
        rows = np.asarray(self.features.sum(axis=1), dtype=np.float64).ravel()
        return rows + self.error + self.constant


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Split:
    """Activations as an SAE sees them: x = features @ decoder + error + decoder bias."""

    features: sp.csr_matrix
    """[row, d_sae]"""
    error: Float[Tensor, "row d"]

    def minus(self, other: "Split") -> "Split":
        """The difference of two, row by row; the decoder bias cancels."""
        return Split(features=self.features - other.features, error=self.error - other.error)


def split_acts(sae: Sae, acts: Float[Tensor, "row d"]) -> Split:
    """Encode some rows and keep what is left over.

    Raises:
        CheckpointError: the SAE reads another width, or its features have no fixed direction.
    """
    if acts.shape[-1] != sae.cfg.d_in:
        raise CheckpointError(
            f"the SAE reads activations of width d_in = {sae.cfg.d_in}, these have {acts.shape[-1]}; use an SAE "
            "trained at this hook point."
        )
    features = encode_rows(sae, acts.float())
    rows, bias = (part.detach().float().cpu() for part in (decoder_rows(sae), sae.b_dec))
    decoded = torch.from_numpy(features @ rows.numpy()) + bias
    return Split(features=features, error=acts.float().cpu() - decoded)


def nothing(sae: Sae, n_rows: int) -> Split:
    """The reference in which no feature is active and nothing is left over."""
    d_sae, width = decoder_rows(sae).shape
    return Split(
        features=sp.csr_matrix((n_rows, d_sae), dtype=np.float32), error=torch.zeros(n_rows, width)
    )


def priced(
    change: sp.csr_matrix, slope: Float[Tensor, "row d"], rows: Float[Tensor, "d_sae d"]
) -> sp.csr_matrix:
    """Change of each feature times what one unit of it is worth: slope . decoder row, in float64."""
    price, decoder = slope.double().cpu(), rows.detach().double().cpu()
    row = np.repeat(np.arange(size_of(change)[0]), np.diff(change.indptr))
    values = np.empty(len(row))
    step = max(1, _NUMBERS // decoder.shape[1])
    for start in range(0, len(row), step):
        part = slice(start, start + step)
        feature = torch.from_numpy(change.indices[part].astype(np.int64))
        worth = (price[torch.from_numpy(row[part])] * decoder[feature]).sum(-1)
        values[part] = change.data[part] * worth.numpy()
    return sp.csr_matrix((values, change.indices, change.indptr), shape=change.shape)
