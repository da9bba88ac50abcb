"""A training step against sae-lens' trainer: same SAE, same data, same seed, batches of 4096 tokens.

Each round times the encoder's matrix product alone, our step and sae-lens' step, so that a step can also be given in
units of the product that no exact training can do without.
"""

import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.memory import peak_mib
from benchmarks.timing import Row
from mechprobe.saes.lens import import_sae_lens
from mechprobe.saes.training.config import Architecture, SaeConfig
from mechprobe.saes.training.trainer import Trainer
from mechprobe.saes.training.untrained import untrained_sae

BATCH = 4096
COMMAND = "python -m benchmarks.run sae_step"
PEER = "sae-lens SAETrainer"


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is trained, and how often it is timed."""

    architecture: Architecture
    d_in: int
    d_sae: int
    k: int
    rounds: int

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"{self.architecture} {self.d_in}->{self.d_sae} k={self.k}"


SIZES = (
    Size(architecture="topk", d_in=512, d_sae=8192, k=32, rounds=5),
    Size(architecture="batchtopk", d_in=512, d_sae=8192, k=32, rounds=5),
    Size(architecture="matryoshka_batchtopk", d_in=512, d_sae=8192, k=32, rounds=3),
    Size(architecture="topk", d_in=2304, d_sae=16384, k=64, rounds=2),
)


def measure() -> list[Row]:
    """Speed for each architecture, memory at the first size, and the loss after a short training."""
    rows = [row for size in SIZES for row in _speed(size)]
    return [*rows, _memory(SIZES[0]), _loss()]


def made_acts(n_tokens: int, width: int, seed: int = 0) -> Tensor:
    """Sparse sums of random directions, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    directions = normalize(torch.randn(4 * width, width, generator=generator), dim=-1)
    chosen = torch.randint(4 * width, (n_tokens, 20), generator=generator)
    strength = 1 + torch.rand(n_tokens, 20, 1, generator=generator)
    acts = torch.zeros(n_tokens, width)
    for column in range(20):  # all at once would take 20 times the memory
        acts += directions[chosen[:, column]] * strength[:, column]
    return acts + 0.05 * torch.randn(n_tokens, width, generator=generator)


def pair(size: Size, *, batch: int = BATCH, n_steps: int = 10_000) -> tuple[Trainer, Any]:
    """Our trainer and sae-lens', with equal weights."""
    config = SaeConfig(
        architecture=size.architecture,
        d_sae=size.d_sae,
        k=size.k,
        n_steps=n_steps,
        batch_size=batch,
        lr=3e-4,
        scale_inputs=False,
    )
    ours, theirs = (
        untrained_sae(config, d_in=size.d_in, mean=torch.zeros(size.d_in), hook_name="made")
        for _ in range(2)
    )
    theirs.W_enc.data = theirs.W_enc.data.contiguous()  # as sae-lens lays it out
    settings = import_sae_lens("sae_lens.config").SAETrainerConfig(
        total_training_samples=n_steps * batch,
        train_batch_size_samples=batch,
        lr=config.lr,
        lr_end=config.lr,
        lr_decay_steps=n_steps // 5,
        dead_feature_window=config.dead_window,
        feature_sampling_window=n_steps + 1,
    )
    never: Iterator[Tensor] = iter(())
    return Trainer(ours, config, scale=1.0), import_sae_lens().SAETrainer(settings, theirs, never)


def _speed(size: Size) -> list[Row]:
    ours, theirs = pair(size)
    acts = made_acts(BATCH, size.d_in)
    encoder, out = torch.randn(size.d_sae, size.d_in), torch.empty(BATCH, size.d_sae)
    arms: dict[str, Callable[[], object]] = {
        "product": lambda: torch.mm(acts, encoder.T, out=out),
        "ours": lambda: ours.step(acts),
        "peer": lambda: theirs.step(acts),
    }
    spent: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(size.rounds + 1):
        order = list(arms)[turn % 3 :] + list(arms)[: turn % 3]
        for name in order:
            seconds = _seconds(arms[name])
            if turn:  # the first round warms up
                spent[name].append(seconds)
    median = {name: statistics.median(times) for name, times in spent.items()}
    speeds = [BATCH / 1e3 / median[name] for name in ("ours", "peer")]
    ratios = [p / o for o, p in zip(spent["ours"], spent["peer"], strict=True)]
    products = [
        statistics.median(a / b for a, b in zip(spent[name], spent["product"], strict=True))
        for name in ("ours", "peer")
    ]
    return [
        _row(f"sae_step[{size.name}]", *speeds, ratios, "k tokens/s"),
        _row(f"sae_step_in_products[{size.name}]", *products, ratios, "encoder products"),
    ]


def _memory(size: Size) -> Row:
    ours, theirs = pair(size)
    acts = made_acts(BATCH, size.d_in)
    ours.step(acts), theirs.step(acts)
    used = [peak_mib(lambda: ours.step(acts)), peak_mib(lambda: theirs.step(acts))]
    return _row(f"sae_step_memory[{size.name}]", *used, [used[1] / used[0]], "MiB")


def _loss() -> Row:
    """Both trained for a while on the same batches; the mean loss of the last twenty."""
    batch, n_steps = 512, 200
    size = Size(architecture="topk", d_in=512, d_sae=8192, k=32, rounds=1)
    ours, theirs = pair(size, batch=batch, n_steps=n_steps)
    acts = made_acts(8192, size.d_in)
    generator = torch.Generator().manual_seed(1)
    losses: list[tuple[float, float]] = []
    for _ in range(n_steps):
        rows = acts[torch.randint(len(acts), (batch,), generator=generator)]
        ours.step(rows)
        output = theirs.step(rows)
        theirs.n_training_steps += 1
        losses.append((sum(ours.losses.values()), float(output.loss.detach())))
    last = [statistics.mean(column) for column in zip(*losses[-20:], strict=True)]
    gaps = [theirs / ours for ours, theirs in losses]
    return _row(f"sae_step_loss[{size.name} {n_steps} steps]", *last, gaps, "loss")


def _seconds(run: Callable[[], object]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        run()
        return time.perf_counter() - start


def _row(name: str, ours: float, peer: float, ratios: list[float], unit: str) -> Row:
    return Row(
        name=name,
        ours=ours,
        peer=peer,
        ratio=statistics.median(ratios),
        unit=unit,
        machine=f"{platform.machine()}, {os.cpu_count()} CPU cores, {platform.system()}",
        command=COMMAND,
        ratio_low=min(ratios),
        ratio_high=max(ratios),
        rounds=len(ratios),
        peer_name=PEER,
    )
