"""One batch's gradients in an SAE's parameters: from the active features alone, or by sae-lens' own loss."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.saes.lens import Sae, import_sae_lens
from mechprobe.saes.training.config import SaeConfig
from mechprobe.saes.training.schedules import k_at, sparsity_at
from mechprobe.saes.training.selecting import BatchTopKSelector, TopKSelector
from mechprobe.saes.training.sparse_step import SparseLoss
from mechprobe.saes.training.weights import Weights


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchFigures:
    """What one batch gave besides gradients."""

    losses: Mapping[str, Float[Tensor, ""]]
    """Terms of the loss; "mse_loss" is the mean over tokens of the summed squared error."""
    n_fired: Int[Tensor, "d_sae"]
    """Tokens of the batch that each feature is active on."""


GradientStep = Callable[[Tensor, Tensor, Tensor, int], BatchFigures]
"""(x, target, dead features, number of the step) -> figures; the gradients are left in the parameters."""


def gradient_step(sae: Sae, config: SaeConfig) -> GradientStep:
    """The step that suits the architecture."""
    return SparseStep(sae, config) if config.keeps_k else DenseStep(sae, config)


class SparseStep:
    """TopK, BatchTopK and Matryoshka BatchTopK; see `sparse_step.py`."""

    def __init__(self, sae: Sae, config: SaeConfig) -> None:
        self.sae: Any = sae
        self.config = config
        self.select = (
            TopKSelector(config.k) if config.architecture == "topk" else BatchTopKSelector(config.k)
        )
        self.loss = SparseLoss(
            select=self.select,
            rescaled=sae.cfg.rescale_acts_by_decoder_norm,
            centred=sae.cfg.apply_b_dec_to_input,
            levels=config.widths,
            auxiliary=sae.cfg.aux_loss_coefficient,
            coarse=config.precision == "bfloat16",
        )

    def __call__(
        self,
        x: Float[Tensor, "tok d_in"],
        target: Float[Tensor, "tok d_out"],
        dead: Bool[Tensor, "d_sae"],
        step: int,
    ) -> BatchFigures:
        """Leave the gradients in the parameters."""
        self.select.k = k_at(self.config, step)
        found = self.loss.gradients(weights_of(self.sae), x, target, dead)
        self.sae.W_enc.grad, self.sae.b_enc.grad = found.enc.T, found.b_enc
        self.sae.W_dec.grad, self.sae.b_dec.grad = found.dec, found.b_dec
        if found.lowest is not None and self.config.architecture != "topk":
            self._move_threshold(found.lowest)
        return BatchFigures(losses=found.losses, n_fired=found.n_fired)

    def _move_threshold(self, lowest: Float[Tensor, ""]) -> None:
        """Follow the cut-off with a running mean, which becomes the saved SAE's threshold."""
        rate = self.sae.cfg.topk_threshold_lr
        self.sae.topk_threshold.mul_(1 - rate).add_(rate * lowest.double())


class DenseStep:
    """Architectures with a penalty: sae-lens' loss and its automatic gradients."""

    def __init__(self, sae: Sae, config: SaeConfig) -> None:
        self.sae: Any = sae
        self.config = config
        self.make_input = import_sae_lens("sae_lens.saes.sae").TrainStepInput

    def __call__(
        self,
        x: Float[Tensor, "tok d_in"],
        target: Float[Tensor, "tok d_in"],  # noqa: ARG002 - sae-lens reconstructs its input
        dead: Bool[Tensor, "d_sae"],
        step: int,
    ) -> BatchFigures:
        """Leave the gradients in the parameters."""
        weight = sparsity_at(self.config, step)
        with self._precision(x.device.type):
            output = self.sae.training_forward_pass(
                self.make_input(
                    sae_in=x,
                    coefficients=dict.fromkeys(self.sae.get_coefficients(), weight),
                    dead_neuron_mask=dead,
                    n_training_steps=step,
                    is_logging_step=False,
                )
            )
        for parameter in self.sae.parameters():
            parameter.grad = None
        output.loss.backward()
        return BatchFigures(
            losses={name: loss.detach() for name, loss in output.losses.items()},
            n_fired=(output.feature_acts.detach() != 0).sum(0),
        )

    def _precision(self, device: str) -> Any:
        if self.config.precision == "bfloat16":
            return torch.autocast(device_type=device, dtype=torch.bfloat16)
        return nullcontext()


def weights_of(sae: Any) -> Weights:
    """An SAE's four parameters, features first, as they lie in memory."""
    return Weights(
        enc=sae.W_enc.detach().T,
        b_enc=sae.b_enc.detach(),
        dec=sae.W_dec.detach(),
        b_dec=sae.b_dec.detach(),
    )
