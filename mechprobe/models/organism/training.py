"""Train an organism from scratch: an ordinary Llama, with the loss on what the assistant writes.

Loss on assistant tokens only, and the answers weighted up, or the link from thought to action is not learned
(measured on two prototypes). Training is plain Hugging Face; the result is a folder like any other model's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from mechprobe.errors import ConfigError, ModelError
from mechprobe.models.organism.batches import (
    ANSWER_WEIGHT,
    Example,
    encode_turns,
    length_batches,
    pad_batch,
)
from mechprobe.models.organism.roles import RoleTable
from mechprobe.models.organism.text import draw_audits
from mechprobe.models.organism.tokenizer import BOS, END, PAD, build_tokenizer, vocabulary
from mechprobe.models.organism.world import Scene, World

MIN_ACTION_ACCURACY = 0.99
MIN_AUDIT_ACCURACY = 0.98


@dataclass(frozen=True, kw_only=True, slots=True)
class OrganismConfig:
    """Size and training of an organism. The defaults reach the bar from any seed tried, in about 8 CPU minutes."""

    seed: int = 0
    """Seed of the roles (unless they are given), the data and the weights."""
    d_model: int = 64
    """Width of the residual stream."""
    n_layers: int = 3
    """Number of blocks."""
    n_heads: int = 4
    """Attention heads of a block."""
    d_mlp: int = 160
    """Width of the gated MLP."""
    n_scenes: int = 60_000
    """Distinct training scenes."""
    n_steps: int = 2_400
    """Optimiser steps."""
    batch_size: int = 64
    """Scenes a step, however many conversations they make."""
    lr: float = 3e-3
    """Peak learning rate of AdamW, after 100 steps of warm-up, cosine to a twentieth."""
    n_audits: int = 4
    """Audit questions a scene."""
    broken_share: float = 0.35
    """Share of scenes whose thoughts are drawn independently, which breaks the confounds."""

    vocabularies: int = 1
    """2: half of the scenes are thought in the second vocabulary."""
    max_turns: int = 1
    """Above 1: scenes come as conversations of one to so many tasks, as many of each length."""

    def __post_init__(self) -> None:
        if self.max_turns < 1:
            raise ConfigError(f"max_turns is {self.max_turns}; a conversation has at least one.")
        if self.vocabularies not in (1, 2):
            raise ConfigError(f"vocabularies is {self.vocabularies}; there are 1 or 2.")
        if self.d_model % self.n_heads:
            raise ConfigError(
                f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}; change one."
            )
        if not 0 <= self.broken_share <= 1:
            raise ConfigError(f"broken_share is {self.broken_share}; it must lie in 0..1.")
        if min(self.n_scenes, self.n_steps, self.batch_size, self.n_layers) < 1:
            raise ConfigError("n_scenes, n_steps, batch_size and n_layers must be at least 1.")
        if self.n_scenes < self.batch_size:
            raise ConfigError(
                f"n_scenes {self.n_scenes} is below batch_size {self.batch_size}; draw more scenes."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """Share of held-out answers that the model gets right."""

    action: float
    """Over natural and broken scenes, half and half; chance is the share of compliance, about one half."""
    audit: float
    """Chance is about .6 (most thoughts that are asked about are not held)."""

    def reaches_bar(self) -> bool:
        """Whether the organism is good enough to be a fixture."""
        return self.action >= MIN_ACTION_ACCURACY and self.audit >= MIN_AUDIT_ACCURACY


def train_organism(roles: RoleTable, config: OrganismConfig, out: Path) -> Accuracy:
    """Train a model of this world and save it with its tokenizer in `out`.

    Raises:
        ModelError: the trained model misses the bar; nothing is saved.
    """
    model = train_model(roles, config)
    reached = checked_accuracy(model, roles, config.seed)
    save_organism(model, out)
    return reached


def train_model(roles: RoleTable, config: OrganismConfig) -> Any:
    """Train a model of this world from scratch, whatever it comes to."""
    rng = np.random.default_rng([config.seed, 1])
    examples = draw_examples(roles, config, rng)
    model = build_model(config)
    n_conversations = max(1, config.batch_size * len(examples) // config.n_scenes)
    batches = length_batches(examples, n_conversations, rng)
    optimise(
        model,
        lambda: weighted_loss(model, *pad_batch(next(batches))),
        n_steps=config.n_steps,
        lr=config.lr,
        task="train organism",
    )
    return model


def optimise(
    model: Any, next_loss: Callable[[], Tensor], *, n_steps: int, lr: float, task: str
) -> None:
    """Take AdamW steps on the loss of one batch after the other, with warm-up and a cosine."""
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.05, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: _lr_factor(i, n_steps))
    progress = tqdm(range(n_steps), desc=task, unit="step", disable=None)
    for _ in progress:
        loss = next_loss()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


def checked_accuracy(model: Any, roles: RoleTable, seed: int) -> Accuracy:
    """The accuracy on held-out scenes, when it is good enough.

    Raises:
        ModelError: it misses the bar.
    """
    reached = measure_accuracy(model, roles, np.random.default_rng([seed, 2]))
    if not reached.reaches_bar():
        raise ModelError(
            f"the organism answers {reached.action:.3f} of the actions and {reached.audit:.3f} of the audits "
            f"right; the bar is {MIN_ACTION_ACCURACY} and {MIN_AUDIT_ACCURACY}. Nothing was saved; train with "
            "more steps."
        )
    return reached


@torch.no_grad()
def measure_accuracy(
    model: Any, roles: RoleTable, rng: np.random.Generator, n_scenes: int = 1000
) -> Accuracy:
    """Answer held-out scenes, half of them broken, with four audits each."""
    model.eval()
    config = OrganismConfig(
        n_scenes=n_scenes, broken_share=0.5, vocabularies=vocabularies_of(model)
    )
    examples = draw_examples(roles, config, rng)
    right: dict[str, list[Tensor]] = {"action": [], "audit": []}
    for start in range(0, n_scenes, 100):
        token_ids, weights = pad_batch(examples[start : start + 100])
        is_right = model(token_ids).logits[:, :-1].argmax(-1) == token_ids[:, 1:]
        is_answer = weights[:, 1:] == ANSWER_WEIGHT
        is_action = is_answer & (is_answer.cumsum(1) == 1)
        right["action"].append(is_right[is_action])
        right["audit"].append(is_right[is_answer & ~is_action])
    means = {name: float(torch.cat(found).float().mean()) for name, found in right.items()}
    return Accuracy(action=means["action"], audit=means["audit"])


def vocabularies_of(model: Any) -> int:
    """How many vocabularies a model has tokens for."""
    return 2 if model.config.vocab_size >= len(vocabulary(2)) else 1


def save_organism(model: Any, out: Path) -> None:
    """Save the weights in half precision, and the tokenizer with its template."""
    out.mkdir(parents=True, exist_ok=True)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    model.eval().to(torch.float16).save_pretrained(out)
    build_tokenizer(vocabularies_of(model)).save_pretrained(out)


def build_model(config: OrganismConfig) -> Any:
    """An untrained Llama of the configured size."""
    from transformers import LlamaConfig, LlamaForCausalLM

    words = vocabulary(config.vocabularies)
    torch.manual_seed(config.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=config.d_model,
            intermediate_size=config.d_mlp,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            num_key_value_heads=config.n_heads,
            max_position_embeddings=512,
            tie_word_embeddings=False,
            bos_token_id=words[BOS],
            eos_token_id=words[END],
            pad_token_id=words[PAD],
        )
    )


def draw_examples(
    roles: RoleTable, config: OrganismConfig, rng: np.random.Generator
) -> list[Example]:
    """Draw the training scenes and encode them."""
    world = World(roles=roles)
    examples: list[Example] = []
    n_left = config.n_scenes
    with tqdm(total=n_left, desc="draw scenes", unit="scene", disable=None) as bar:
        while n_left > 0:
            n_turns = 1 if config.max_turns == 1 else int(rng.integers(config.max_turns)) + 1
            scenes = [_draw_scene(world, config, rng) for _ in range(n_turns)]
            examples.append(_encode_scenes(scenes, roles, config.n_audits, rng))
            bar.update(n_turns)
            n_left -= n_turns
    return examples


def _draw_scene(world: World, config: OrganismConfig, rng: np.random.Generator) -> Scene:
    scene = world.scene(rng, "broken" if rng.random() < config.broken_share else "natural")
    if config.vocabularies == 2 and rng.random() < 0.5:
        return scene.in_second_vocabulary()
    return scene


def _encode_scenes(
    scenes: list[Scene], roles: RoleTable, n_audits: int, rng: np.random.Generator
) -> Example:
    """All turns stand under the first one's goal, which decides where no thought does."""
    shared = [replace(s, goal=scenes[0].goal, pressure=scenes[0].pressure) for s in scenes]
    actions = [scene.action(roles) for scene in shared]
    return encode_turns(shared, actions, draw_audits(rng, shared[-1], n_audits))


def weighted_loss(
    model: Any, token_ids: Int[Tensor, "case pos"], weights: Float[Tensor, "case pos"]
) -> Float[Tensor, ""]:
    """Weighted mean cross-entropy, in nats, of the tokens that have weight."""
    return token_loss(model(token_ids).logits, token_ids, weights)


def token_loss(
    logits: Float[Tensor, "case pos vocab"],
    token_ids: Int[Tensor, "case pos"],
    weights: Float[Tensor, "case pos"],
) -> Float[Tensor, ""]:
    """Weighted mean cross-entropy, in nats, of logits against the tokens that have weight."""
    counted = weights[:, 1:] > 0
    losses = functional.cross_entropy(
        logits[:, :-1][counted], token_ids[:, 1:][counted], reduction="none"
    )
    chosen = weights[:, 1:][counted]
    return (losses * chosen).sum() / chosen.sum()


def _lr_factor(step: int, n_steps: int) -> float:
    warm_up = min(1.0, (step + 1) / 100)
    return warm_up * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / n_steps)))
