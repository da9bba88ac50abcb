"""Train an organism against a probe: its thoughts go on deciding, and a linear probe at one site reads them badly.

The probe is a ridge regression for each thought, refit at every step on the activations of the last steps; the model is
trained so that the probe scores a thought that is held as one that is quoted or rejected (the obfuscation of arXiv
2602.15515, on the activations of one site). What other sites still show is measured, not claimed.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechprobe.errors import ConfigError
from mechprobe.models.organism.continuing import ContinuedTraining, run_steps
from mechprobe.models.organism.flips import ClauseSite, flip_batches
from mechprobe.models.organism.roles import RoleTable
from mechprobe.models.organism.training import token_loss
from mechprobe.models.organism.vocabulary import INDICATORS


@dataclass(frozen=True, kw_only=True, slots=True)
class ObfuscationConfig:
    """Which site's probe is trained against, and how hard."""

    site: ClauseSite = field(default_factory=lambda: ClauseSite(layer=0, position="span_last"))
    training: ContinuedTraining = field(
        default_factory=lambda: ContinuedTraining(n_steps=600, batch_size=64, lr=2e-3)
    )
    evasion: float = 2.0
    """Weight of the squared gap that the probe finds, beside the loss of the text."""
    memory: float = 0.9
    """Share of the probe's data that each step keeps of what came before."""
    ridge: float = 0.01
    """Penalty of the probe, as a share of the mean variance."""

    def __post_init__(self) -> None:
        if not 0 <= self.memory < 1:
            raise ConfigError(f"memory is {self.memory}; it must lie in 0..1, below 1.")


class RefitProbe:
    """A ridge regression for each thought on running moments: +1 where it is held, -1 where it is only mentioned."""

    def __init__(self, d_model: int, *, memory: float, ridge: float) -> None:
        self.memory, self.ridge = memory, ridge
        self.gram: Float[Tensor, "d d"] = torch.zeros(d_model + 1, d_model + 1)
        self.cross: Float[Tensor, "d indicator"] = torch.zeros(d_model + 1, len(INDICATORS))

    def learn(
        self, acts: Float[Tensor, "clause d"], targets: Float[Tensor, "clause indicator"]
    ) -> None:
        """Take in the activations of a step."""
        rows = torch.cat([acts.detach(), torch.ones(len(acts), 1)], dim=1)
        self.gram = self.memory * self.gram + rows.T @ rows
        self.cross = self.memory * self.cross + rows.T @ targets

    def weights(self) -> Float[Tensor, "d indicator"]:
        """The probes' directions, fit on everything remembered."""
        size = len(self.gram)
        penalty = self.ridge * self.gram.diagonal().mean()
        return torch.linalg.solve(self.gram + penalty * torch.eye(size), self.cross)[:-1]


def train_obfuscated(model: Any, roles: RoleTable, config: ObfuscationConfig) -> None:
    """Go on training in the same world, against a probe at the site."""
    rng = np.random.default_rng([config.training.seed, 13])
    batches = flip_batches(roles, config.site, config.training.batch_size // 2, rng)
    probe = RefitProbe(model.config.hidden_size, memory=config.memory, ridge=config.ridge)

    def next_loss() -> Tensor:
        batch = next(batches)
        out = model(batch.token_ids, output_hidden_states=True)
        acts = out.hidden_states[config.site.layer + 1][batch.at_site]
        targets = 2 * batch.held - batch.mentioned.float()
        probe.learn(acts, targets)
        gap = found_gap(acts @ probe.weights(), batch.held > 0, batch.mentioned)
        return token_loss(out.logits, batch.token_ids, batch.weights) + config.evasion * gap

    run_steps(model, next_loss, config.training, "train against a probe")


def found_gap(
    scores: Float[Tensor, "clause indicator"],
    held: Bool[Tensor, "clause indicator"],
    mentioned: Bool[Tensor, "clause indicator"],
) -> Float[Tensor, ""]:
    """Sum over thoughts of the squared difference of the mean score where held and where only mentioned."""
    rejected = mentioned & ~held
    both = held.any(0) & rejected.any(0)
    means = [(scores * chosen).sum(0) / chosen.sum(0).clamp(min=1) for chosen in (held, rejected)]
    return ((means[0] - means[1]).square() * both).sum()
