"""The parameters of an SAE as rows of features."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The four parameters, features first."""

    enc: Float[Tensor, "d_sae d_in"]
    b_enc: Float[Tensor, "d_sae"]
    dec: Float[Tensor, "d_sae d_out"]
    b_dec: Float[Tensor, "d_out"]
