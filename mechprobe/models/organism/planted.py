"""Plant known directions: train an organism so that its thoughts pass through a subspace that we chose.

At one token a clause, after one block, 18 orthonormal directions carry the 18 thoughts. Interchange training (IIT, arXiv
2112.00826) swaps only that subspace with the flipped run's and requires the flipped run's answers; the strictness term
(SIIT, arXiv 2407.14494, section 3) changes only what is orthogonal to it and requires the run's own answers. Two plain
terms hold the coordinates at their values and keep the rest of the activation quiet.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mechprobe.errors import ConfigError
from mechprobe.models.organism.batches import ANSWER_WEIGHT
from mechprobe.models.organism.continuing import ContinuedTraining, run_steps
from mechprobe.models.organism.flips import ClauseSite, FlipBatch, flip_batches
from mechprobe.models.organism.roles import RoleTable
from mechprobe.models.organism.training import token_loss
from mechprobe.models.organism.vocabulary import INDICATORS


@dataclass(frozen=True, kw_only=True, slots=True)
class PlantConfig:
    """Where the directions stand, and the weights of the loss."""

    site: ClauseSite = field(default_factory=lambda: ClauseSite(layer=0, position="span_last"))
    training: ContinuedTraining = field(
        default_factory=lambda: ContinuedTraining(n_steps=600, batch_size=64, lr=2e-3)
    )
    scale: float = 6.0
    """Coordinate of a held thought along its direction; 0 where it is not held."""
    interchange: float = 1.0
    """Weight of the loss of answers after a swap of the subspace."""
    strictness: float = 1.0
    """Weight of the loss of answers after a change of everything but the subspace."""
    coordinates: float = 1.0
    """Weight of the mean squared error of the coordinates."""
    quiet: float = 4.0
    """Weight of the variance orthogonal to the subspace."""


def draw_directions(seed: int, d_model: int) -> Float[Tensor, "indicator d"]:
    """Random orthonormal directions, one an indicator.

    Raises:
        ConfigError: the model is too narrow for them.
    """
    if d_model < len(INDICATORS):
        raise ConfigError(
            f"{len(INDICATORS)} orthonormal directions do not fit into width {d_model}."
        )
    normal = np.random.default_rng([seed, 42]).standard_normal((d_model, len(INDICATORS)))
    return torch.from_numpy(np.linalg.qr(normal)[0].T.astype(np.float32).copy())


def train_planted(
    model: Any, roles: RoleTable, config: PlantConfig
) -> Float[Tensor, "indicator d"]:
    """Plant the directions of the training's seed; return them.

    Raises:
        ConfigError: the site is not below the last block.
    """
    n_layers = len(model.model.layers)
    if not 0 <= config.site.layer < n_layers - 1:
        raise ConfigError(
            f"directions are planted after block 0..{n_layers - 2}, not {config.site.layer}: a later block must read them."
        )
    seed = config.training.seed
    directions = draw_directions(seed, model.config.hidden_size)
    rng = np.random.default_rng([seed, 12])
    batches = flip_batches(roles, config.site, config.training.batch_size // 2, rng)
    noise = torch.Generator().manual_seed(seed)
    run_steps(
        model,
        lambda: sum(planted_losses(model, next(batches), directions, config, noise).values()),  # pyright: ignore[reportArgumentType]
        config.training,
        "plant directions",
    )
    return directions


def planted_losses(
    model: Any,
    batch: FlipBatch,
    directions: Float[Tensor, "indicator d"],
    config: PlantConfig,
    noise: torch.Generator,
) -> dict[str, Float[Tensor, ""]]:
    """The terms of the loss, each with its weight."""
    out = model(batch.token_ids, output_hidden_states=True)
    hidden = out.hidden_states[config.site.layer + 1]
    acts = hidden[batch.at_site]
    coordinates = acts @ directions.T
    rest = acts - coordinates @ directions
    partner = batch.token_ids.roll(batch.n_scenes, dims=0)
    swapped = swap_subspace(hidden, batch, directions)
    shaken = shake_rest(hidden, batch, directions, noise)
    layer = config.site.layer
    return {
        "text": token_loss(out.logits, batch.token_ids, batch.weights),
        "interchange": config.interchange
        * answer_loss(run_rest(model, swapped, layer), partner, batch.weights),
        "strictness": config.strictness
        * answer_loss(run_rest(model, shaken, layer), batch.token_ids, batch.weights),
        "coordinates": config.coordinates
        * (coordinates - config.scale * batch.held).square().mean(),
        "quiet": config.quiet * (rest - rest.mean(0)).square().mean(),
    }


def swap_subspace(
    hidden: Float[Tensor, "case pos d"], batch: FlipBatch, directions: Float[Tensor, "indicator d"]
) -> Float[Tensor, "case pos d"]:
    """Give every clause the coordinates that it has in the flipped run, and nothing else of it."""
    change = hidden.roll(batch.n_scenes, dims=0) - hidden
    return torch.where(
        batch.at_site[..., None], hidden + change @ directions.T @ directions, hidden
    )


def shake_rest(
    hidden: Float[Tensor, "case pos d"],
    batch: FlipBatch,
    directions: Float[Tensor, "indicator d"],
    noise: torch.Generator,
) -> Float[Tensor, "case pos d"]:
    """Keep the coordinates of every clause; move the rest at random, or give it the flipped run's."""
    n_cases, n_positions, d_model = hidden.shape
    shove = torch.randn(hidden.shape, generator=noise) / d_model**0.5
    size = 8 * torch.rand((n_cases, n_positions, 1), generator=noise)
    swap = (torch.rand((n_cases, 1, 1), generator=noise) < 0.5).float()
    flipped = hidden.roll(batch.n_scenes, dims=0) - hidden
    change = swap * flipped + (1 - swap) * shove * size
    change = change - change @ directions.T @ directions
    return torch.where(batch.at_site[..., None], hidden + change, hidden)


def run_rest(
    model: Any, hidden: Float[Tensor, "case pos d"], layer: int
) -> Float[Tensor, "case pos vocab"]:
    """Logits from the output of one block on."""
    positions = torch.arange(hidden.shape[1])[None]
    rotary = model.model.rotary_emb(hidden, positions)
    for block in model.model.layers[layer + 1 :]:
        hidden = block(
            hidden, attention_mask=None, position_ids=positions, position_embeddings=rotary
        )
    return model.lm_head(model.model.norm(hidden))


def answer_mask(weights: Float[Tensor, "case pos"]) -> Bool[Tensor, "case next"]:
    """Positions whose next token is an answer."""
    return weights[:, 1:] == ANSWER_WEIGHT


def answer_loss(
    logits: Float[Tensor, "case pos vocab"],
    wanted: Int[Tensor, "case pos"],
    weights: Float[Tensor, "case pos"],
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the answers, in nats."""
    is_answer = answer_mask(weights)
    return functional.cross_entropy(logits[:, :-1][is_answer], wanted[:, 1:][is_answer])
