"""How an SAE is trained."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from mechprobe.errors import ConfigError

Architecture = Literal["standard", "gated", "jumprelu", "topk", "batchtopk", "matryoshka_batchtopk"]
SPARSE: tuple[Architecture, ...] = ("topk", "batchtopk", "matryoshka_batchtopk")
"""Those that keep a fixed number of features, so that a step needs to look at the active ones only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SaeConfig:
    """How to train an SAE.

    Raises:
        ConfigError: a number is out of range, or two settings do not go together.
    """

    architecture: Architecture = "batchtopk"
    """"batchtopk" and "matryoshka_batchtopk" are saved as "jumprelu", with the batch's cut-off as its threshold."""
    d_sae: int = 1024
    """How many features."""
    k: int = 16
    """How many features are active on a token: always, on average, or as the target; not for "standard" and "gated"."""
    sparsity: float = 1.0
    """Weight of the sparsity penalty, relative to the squared error: "standard", "gated" and "jumprelu" only."""
    n_steps: int = 300
    """Batches to train on."""
    batch_size: int = 1024
    """Tokens in a batch."""
    lr: float = 5e-3
    """Adam's learning rate, for short runs; it falls to zero over the last steps (lr_decay)."""
    dtype: Literal["float32", "float16"] = "float32"
    """What the weights are saved in; training is in float32."""
    seed: int = 0
    """Seed of the weights and of the order of the tokens."""
    order_seed: int | None = None
    """Seed of the order of the tokens alone, for SAEs of several seeds in one pass; None: that of the weights."""
    levels: tuple[int, ...] = ()
    """"matryoshka_batchtopk": widths of the nested SAEs; empty: an eighth, a half and all of d_sae."""
    lr_schedule: Literal["constant", "cosine"] = "constant"
    """"cosine" falls to a tenth before lr_decay begins."""
    lr_warm_up: float = 0.0
    """Share of the steps over which the learning rate rises."""
    lr_decay: float = 0.2
    """Share of the steps, the last, over which the learning rate falls to zero."""
    sparsity_warm_up: float | None = None
    """Share of the steps over which the penalty rises, or k falls from k_start; None: .5 for "jumprelu", else .1."""
    k_start: int | None = None
    """Active features at the first step, for those that keep k; None: k."""
    revive: Literal["auto", "auxiliary", "resample", "none"] = "auto"
    """What is done for features that stopped firing: "auxiliary" lets them explain the error (those that keep k) or
    raises them ("jumprelu"), "resample" (arXiv 2309.08600's successors; those with a penalty) points them at badly explained tokens.
    "auto" is "auxiliary" for those that keep k, else "none"."""
    dead_after: int | None = None
    """Steps without firing after which a feature counts as dead; None: a tenth of the steps, at least 10."""
    rescale_by_decoder_norm: bool = True
    """Choose features by activations in units of the output, whatever the decoder's norms; those that keep k only."""
    unit_decoder: bool = False
    """Save decoder rows of length one, with their norms in the encoder; those that keep k and rescale always do so."""
    scale_inputs: bool = True
    """Divide by the mean distance from the mean activation while training; folded into the weights at the end."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the large products; the weights, the optimiser and the activations of the chosen features are float32."""
    ema: float = 0.0
    """Decay of a running average of the weights, which is what is saved; 0 for none."""
    patience: int = 0
    """Stop early: steps without a gain in explained variance after which the learning rate falls; 0 for never."""
    min_gain: float = 1e-3
    """Explained variance that counts as a gain."""

    def __post_init__(self) -> None:
        if self.architecture not in get_args(Architecture):
            raise ConfigError(
                f"architecture is {self.architecture!r}; it must be one of {list(get_args(Architecture))}."
            )
        for name in ("d_sae", "k", "n_steps", "batch_size", "lr", "sparsity"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be > 0.")
        for name in ("k", "k_start"):
            if (getattr(self, name) or 0) > self.d_sae:
                raise ConfigError(
                    f"{name} is {getattr(self, name)} of d_sae {self.d_sae} features; it must be less."
                )
        for name in ("lr_warm_up", "lr_decay", "sparsity_warm_up", "ema"):
            if not 0 <= (getattr(self, name) or 0) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it is a share, from 0 to 1.")
        _check_levels(self)
        _check_revival(self)

    @property
    def reading_seed(self) -> int:
        """Seed of the order of the tokens."""
        return self.seed if self.order_seed is None else self.order_seed

    @property
    def keeps_k(self) -> bool:
        """Whether the architecture keeps a fixed number of features."""
        return self.architecture in SPARSE

    @property
    def widths(self) -> tuple[int, ...]:
        """Matryoshka's widths; empty for the others."""
        if self.architecture != "matryoshka_batchtopk":
            return ()
        return self.levels or (self.d_sae // 8, self.d_sae // 2, self.d_sae)

    @property
    def dead_window(self) -> int:
        """Steps without firing after which a feature counts as dead."""
        return max(10, self.n_steps // 10) if self.dead_after is None else self.dead_after


def _check_levels(config: SaeConfig) -> None:
    widths = config.widths
    if config.levels and not widths:
        raise ConfigError(
            f"levels are for matryoshka_batchtopk, not for {config.architecture}; leave them out."
        )
    rising = all(a < b for a, b in pairwise((0, *widths)))
    if widths and (not rising or widths[-1] != config.d_sae):
        raise ConfigError(
            f"levels are {list(widths)}; they must rise and end at d_sae, {config.d_sae}."
        )


def _check_revival(config: SaeConfig) -> None:
    fits = {
        "auxiliary": config.keeps_k or config.architecture == "jumprelu",
        "resample": not config.keeps_k,
    }
    if not fits.get(config.revive, True):
        raise ConfigError(
            f"revive is {config.revive!r}, which {config.architecture!r} does not have; use 'auto'."
        )
