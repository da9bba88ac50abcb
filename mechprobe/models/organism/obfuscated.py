"""Train an organism against a probe: its thoughts go on deciding, and a linear probe at one site reads them badly.

The probe is a linear discriminant for each thought, refit at every step on the activations of the last steps; the model is
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
        default_factory=lambda: ContinuedTraining(n_steps=400, batch_size=64, lr=2e-3)
    )
    evasion: float = 0.5
    """Weight of the gap that the probe finds, beside the loss of the text."""
    memory: float = 0.95
    """Share of the probe's data that each step keeps of what came before."""
    ridge: float = 1e-3
    """Penalty of the probe, as a share of the mean variance."""

    def __post_init__(self) -> None:
        if not 0 <= self.memory < 1:
            raise ConfigError(f"memory is {self.memory}; it must lie in 0..1, below 1.")


class RefitProbe:
    """Linear discriminants on running moments: a thought that is held against one that is only mentioned.

    The covariance within the classes is shared by all thoughts; scores have unit spread within a class, so that a gap
    cannot be hidden by making it small.
    """

    def __init__(self, d_model: int, *, memory: float, ridge: float) -> None:
        self.memory, self.ridge = memory, ridge
        self.count: Float[Tensor, "attitude indicator"] = torch.zeros(2, len(INDICATORS))
        self.total: Float[Tensor, "attitude indicator d"] = torch.zeros(2, len(INDICATORS), d_model)
        self.gram: Float[Tensor, "d d"] = torch.zeros(d_model, d_model)

    def learn(
        self,
        acts: Float[Tensor, "clause d"],
        held: Bool[Tensor, "clause indicator"],
        mentioned: Bool[Tensor, "clause indicator"],
    ) -> None:
        """Take in the activations of a step."""
        classes = torch.stack([held, mentioned & ~held]).float()
        known = acts.detach()[mentioned.any(1)]
        self.count = self.memory * self.count + classes.sum(1)
        self.total = self.memory * self.total + torch.einsum("acn,cd->and", classes, acts.detach())
        self.gram = self.memory * self.gram + known.T @ known

    def weights(self) -> Float[Tensor, "d indicator"]:
        """The probes' directions, fit on everything remembered."""
        means = self.total / self.count.clamp(min=1)[..., None]
        between = torch.einsum("an,and,ane->de", self.count, means, means)
        within = (self.gram - between) / self.count.sum()
        within += self.ridge * within.diagonal().mean() * torch.eye(len(within))
        gaps = (means[0] - means[1]).T
        weights = torch.linalg.solve(within, gaps)
        return weights / (gaps * weights).sum(0).clamp(min=1e-6).sqrt()


def train_obfuscated(model: Any, roles: RoleTable, config: ObfuscationConfig) -> None:
    """Go on training in the same world, against a probe at the site."""
    rng = np.random.default_rng([config.training.seed, 13])
    batches = flip_batches(roles, config.site, config.training.batch_size // 2, rng)
    probe = RefitProbe(model.config.hidden_size, memory=config.memory, ridge=config.ridge)

    def next_loss() -> Tensor:
        batch = next(batches)
        out = model(batch.token_ids, output_hidden_states=True)
        acts = out.hidden_states[config.site.layer + 1][batch.at_site]
        held = batch.held > 0
        probe.learn(acts, held, batch.mentioned)
        gap = found_gap(acts @ probe.weights(), held, batch.mentioned)
        return token_loss(out.logits, batch.token_ids, batch.weights) + config.evasion * gap

    run_steps(model, next_loss, config.training, "train against a probe")


def found_gap(
    scores: Float[Tensor, "clause indicator"],
    held: Bool[Tensor, "clause indicator"],
    mentioned: Bool[Tensor, "clause indicator"],
) -> Float[Tensor, ""]:
    """Mean over thoughts of log(1 + gap^2), the gap being between the mean scores where held and only mentioned."""
    rejected = mentioned & ~held
    both = held.any(0) & rejected.any(0)
    means = [(scores * chosen).sum(0) / chosen.sum(0).clamp(min=1) for chosen in (held, rejected)]
    gaps = (means[0] - means[1])[both]
    return torch.log1p(gaps.square()).sum() / both.sum().clamp(min=1)
