"""One line that tells how training goes, and how near it is to the speed of a matrix product."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from tqdm import tqdm

from mechprobe.saes.training.trainer import Trainer

_EVERY_SECONDS = 1.0


class LiveLine:
    """A progress bar with the figures of the first SAE that is under way."""

    def __init__(self, trainers: Sequence[Trainer], title: str, *, done: int = 0) -> None:
        config = trainers[0].config
        most = max(trainer.config.n_steps for trainer in trainers)
        self.bar: Any = tqdm(
            total=most * config.batch_size,
            initial=done * config.batch_size,
            unit="tok",
            unit_scale=True,
            disable=None,
            desc=title,
        )
        self.trainers = trainers
        self.product = 0.0 if self.bar.disable else sum(map(_product_seconds, trainers))
        self.since, self.steps = time.monotonic(), 0

    def __enter__(self) -> "LiveLine":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def update(self) -> None:
        """A batch was learned from."""
        self.bar.update(self.trainers[0].config.batch_size)
        self.steps += 1
        passed = time.monotonic() - self.since
        if self.bar.disable or passed < _EVERY_SECONDS:
            return
        trainer = next((one for one in self.trainers if not one.is_done), self.trainers[0])
        self.bar.set_postfix_str(figures_line(trainer, self.product * self.steps / passed))
        self.since, self.steps = time.monotonic(), 0


def figures_line(trainer: Trainer, of_limit: float) -> str:
    """Loss, active features on a token, explained variance, dead share, and the share of the time that no exact
    training could do without: the encoder's product.
    """
    loss = sum(trainer.losses.values())
    return (
        f"loss {loss:.4g}, L0 {trainer.recent_l0:.1f}, EV {trainer.explained_variance:.3f}, "
        f"dead {float(trainer.dead.float().mean()):.0%}, {of_limit:.0%} of the matmul limit"
    )


def _product_seconds(trainer: Trainer) -> float:
    """Seconds that the encoder's product of a batch takes, from a part of one."""
    d_in, config = int(trainer.sae.cfg.d_in), trainer.config
    n_tokens = min(config.batch_size, 512)
    x = torch.randn(n_tokens, d_in, device=trainer.sae.W_dec.device)
    rows = trainer.sae.W_enc.detach().T
    spent: list[float] = []
    for _ in range(3):
        start = time.perf_counter()
        float((x @ rows.T)[0, 0])
        spent.append(time.perf_counter() - start)
    return min(spent) * config.batch_size / n_tokens
