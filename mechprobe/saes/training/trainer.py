"""An SAE under way: its weights, Adam's memory, which features are dead, and when to stop.

Steps, clipping, counting and the fall of the learning rate are sae-lens' trainer's, so that the two give the same SAE.
Everything that decides the next step is in `state`, so that a run that was killed goes on to the same last bit.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechprobe.errors import StoreError
from mechprobe.saes.lens import Sae
from mechprobe.saes.training.config import SaeConfig
from mechprobe.saes.training.resampling import resample
from mechprobe.saes.training.schedules import lr_at
from mechprobe.saes.training.steps import BatchFigures, gradient_step

_MAX_NORM = 1.0
"""sae-lens clips gradients at this norm."""
_LOOK_EVERY = 10
"""Steps between two looks at the explained variance."""
_SMOOTH = 0.8


class Trainer:
    """Trains one SAE, a batch at a time."""

    def __init__(
        self, sae: Sae, config: SaeConfig, *, scale: float, target_scale: float | None = None
    ) -> None:
        """Begin.

        Args:
            scale: what the activations are multiplied by before the SAE reads them.
            target_scale: the same for what is reconstructed; None for `scale`.
        """
        self.sae: Any = sae
        self.config = config
        self.scale = scale
        self.target_scale = scale if target_scale is None else target_scale
        self.n_steps = 0
        self.end = config.n_steps
        self.explained_variance = math.nan
        self.best = (-math.inf, 0)
        self.losses: Mapping[str, float] = {}
        self.recent_l0 = 0.0
        self._parameters = dict(self.sae.named_parameters())
        self._adam = torch.optim.Adam(self._parameters.values(), lr=config.lr, fused=True)
        self._gradients = gradient_step(sae, config)
        device = sae.W_dec.device
        self._steps_since_fired = torch.zeros(config.d_sae, device=device)
        self._n_fired = torch.zeros(config.d_sae, dtype=torch.float64, device=device)
        self._average = {
            name: parameter.detach().clone(memory_format=torch.preserve_format)
            for name, parameter in self._parameters.items()
            if config.ema
        }

    @property
    def is_done(self) -> bool:
        """Whether there are no more steps to make."""
        return self.n_steps >= self.end

    @property
    def dead(self) -> Bool[Tensor, "d_sae"]:
        """Features that have not fired for longer than the window."""
        return self._steps_since_fired > self.config.dead_window

    @property
    def l0(self) -> float:
        """Active features on a token, over all steps so far."""
        return float(self._n_fired.sum()) / max(1, self.n_steps * self.config.batch_size)

    def step(
        self, acts: Float[Tensor, "tok d_in"], target: Float[Tensor, "tok d_out"] | None = None
    ) -> BatchFigures:
        """Learn from a batch of raw activations.

        Args:
            target: what is to be reconstructed, where it is not the activations themselves.

        Raises:
            StoreError: the activations hold NaN or infinite numbers.
        """
        x = acts.to(self.sae.W_dec.device) * self.scale
        y = x if target is None else target.to(x.device) * self.target_scale
        figures = self._gradients(x, y, self.dead, self.n_steps)
        self.losses = {name: float(loss) for name, loss in figures.losses.items()}
        if not math.isfinite(sum(self.losses.values())):
            raise _unusable(acts, self.sae.cfg.metadata.hook_name, self.n_steps)
        self._count(figures)
        self._update()
        self.n_steps += 1
        if self.n_steps % _LOOK_EVERY == 0:
            self._look(y)
        if self.config.revive == "resample" and self.n_steps % self.config.dead_window == 0:
            self._resample(x)
        return figures

    def finish(self) -> Sae:
        """The trained SAE, its running average if one was kept, the scaling folded into the weights."""
        with torch.no_grad():
            for name, average in self._average.items():
                self._parameters[name].copy_(average)
        if self.sae.cfg.normalize_activations != "none":
            self.sae.fold_activation_norm_scaling_factor(self.scale)
        if self.config.unit_decoder and not self.config.keeps_k:
            self.sae.fold_W_dec_norm()
        self.sae.cfg.metadata.l0 = self.l0
        self.sae.cfg.metadata.num_dead_features = int(self.dead.sum())
        for parameter in self.sae.parameters():
            parameter.grad = None
            parameter.data = parameter.data.contiguous()
        return self.sae.eval()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next step depends on: tensors, and plain numbers."""
        tensors = {name: tensor.detach().contiguous() for name, tensor in self._tensors()}
        return tensors, {
            "n_steps": self.n_steps,
            "end": self.end,
            "explained_variance": self.explained_variance,
            "best": list(self.best),
            "scale": self.scale,
            "target_scale": self.target_scale,
        }

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Go back to a state that `state` gave."""
        for name, tensor in self._tensors():
            tensor.copy_(tensors[name])
        self.n_steps, self.end = numbers["n_steps"], numbers["end"]
        self.explained_variance = numbers["explained_variance"]
        self.best = (numbers["best"][0], numbers["best"][1])
        self.scale, self.target_scale = numbers["scale"], numbers["target_scale"]

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self.sae.state_dict().items():
            yield f"sae.{name}", tensor
        for name, parameter in self._parameters.items():
            memory = self._adam.state[parameter]
            if not memory:  # as Adam makes it at its first step
                memory["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                memory["exp_avg"] = torch.zeros_like(parameter)
                memory["exp_avg_sq"] = torch.zeros_like(parameter)
            for part in ("step", "exp_avg", "exp_avg_sq"):
                yield f"adam.{name}.{part}", memory[part]
        for name, average in self._average.items():
            yield f"average.{name}", average
        yield "steps_since_fired", self._steps_since_fired
        yield "n_fired", self._n_fired

    def _count(self, figures: BatchFigures) -> None:
        self._steps_since_fired += 1
        self._steps_since_fired[figures.n_fired > 0] = 0
        self._n_fired += figures.n_fired
        self.recent_l0 = float(figures.n_fired.sum()) / self.config.batch_size

    def _update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), _MAX_NORM)
        self._adam.param_groups[0]["lr"] = lr_at(self.config, self.n_steps, self.end)
        self._adam.step()
        # Young averages forget their start faster.
        decay = min(self.config.ema, (1 + self.n_steps) / (10 + self.n_steps))
        for name, average in self._average.items():
            average.lerp_(self._parameters[name].detach(), 1 - decay)

    def _look(self, target: Float[Tensor, "tok d_out"]) -> None:
        """Follow the explained variance, and let the learning rate fall when it stands still."""
        spread = float((target - target.mean(0)).square().sum(1).mean())
        found = 1 - self.losses["mse_loss"] / max(spread, 1e-12)
        old = self.explained_variance
        self.explained_variance = (
            found if math.isnan(old) else _SMOOTH * old + (1 - _SMOOTH) * found
        )
        if self.explained_variance > self.best[0] + self.config.min_gain:
            self.best = (self.explained_variance, self.n_steps)
        is_still = self.n_steps - self.best[1] >= self.config.patience
        if self.config.patience and is_still and self.end == self.config.n_steps:
            fall = round(self.config.lr_decay * self.config.n_steps)
            self.end = min(self.end, self.n_steps + fall)

    def _resample(self, x: Float[Tensor, "tok d_in"]) -> None:
        dead = self.dead
        moments = [
            (parameter, self._adam.state[parameter]) for parameter in self._parameters.values()
        ]
        if resample(self.sae, x, dead, moments, seed=(self.config.seed, self.n_steps)):
            self._steps_since_fired[dead] = 0


def _unusable(acts: Tensor, hook_name: str, step: int) -> StoreError:
    bad = (~acts.isfinite()).any(1)
    if not bad.any():
        return StoreError(
            f"training at {hook_name} diverged at step {step}; lower lr, or set scale_inputs to true."
        )
    return StoreError(
        f"{int(bad.sum())} of {len(acts)} rows of activations at {hook_name} hold NaN or infinite numbers (step "
        f"{step}); find out why the model makes them, and capture again without those tokens."
    )
