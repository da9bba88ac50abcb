"""How an SAE is trained."""

from dataclasses import dataclass
from typing import Literal, get_args

from mechprobe.errors import ConfigError

Architecture = Literal["standard", "topk", "batchtopk", "jumprelu"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SaeConfig:
    """How to train an SAE.

    Raises:
        ConfigError: a number is out of range.
    """

    architecture: Architecture = "batchtopk"
    """"batchtopk" is saved as "jumprelu", with the batch's cut-off as its threshold."""
    d_sae: int = 1024
    """How many features."""
    k: int = 16
    """How many features are active on a token: always, on average, or as the target; not for "standard"."""
    sparsity: float = 1.0
    """Weight of the sparsity penalty, relative to the squared error: "standard" and "jumprelu" only."""
    n_steps: int = 300
    """Batches to train on."""
    batch_size: int = 1024
    """Tokens in a batch."""
    lr: float = 5e-3
    """Adam's learning rate, for short runs; it falls to zero over the last fifth of the steps."""
    dtype: Literal["float32", "float16"] = "float32"
    """What the weights are saved in; training is in float32."""
    seed: int = 0
    """Seed of the weights and of the order of the tokens."""

    def __post_init__(self) -> None:
        if self.architecture not in get_args(Architecture):
            raise ConfigError(
                f"architecture is {self.architecture!r}; it must be one of {list(get_args(Architecture))}."
            )
        for name in ("d_sae", "k", "n_steps", "batch_size", "lr", "sparsity"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be > 0.")
        if self.k > self.d_sae:
            raise ConfigError(f"k is {self.k} of d_sae {self.d_sae} features; it must be less.")
