"""Several SAEs that differ in hook point, width, active features or seed."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from mechprobe.saes.training.config import SaeConfig
from mechprobe.saes.training.runs import SaeJob


def sweep(
    config: SaeConfig,
    out: Path,
    hook_names: Sequence[str],
    *,
    widths: Sequence[int] = (),
    ks: Sequence[int] = (),
    seeds: Sequence[int] = (),
) -> list[SaeJob]:
    """One SAE for each combination, all of one order of tokens; a single one goes into `out` itself.

    Args:
        widths, ks, seeds: what to use instead of the config's own d_sae, k and seed.
    """
    widths, ks = tuple(widths) or (config.d_sae,), tuple(ks) or (config.k,)
    seeds = tuple(seeds) or (config.seed,)
    order = seeds[0] if config.order_seed is None else config.order_seed
    jobs: list[SaeJob] = []
    for hook_name, d_sae, k, seed in product(hook_names, widths, ks, seeds):
        own = replace(config, d_sae=d_sae, k=k, seed=seed)
        if len(seeds) > 1:
            own = replace(own, order_seed=order)
        varied = {"d": (d_sae, widths), "k": (k, ks), "seed": (seed, seeds)}
        parts = [f"{name}{value}" for name, (value, among) in varied.items() if len(among) > 1]
        folder = out / "-".join([hook_name, *parts])
        jobs.append(SaeJob(hook_name=hook_name, config=own, out=folder))
    return [replace(jobs[0], out=out)] if len(jobs) == 1 else jobs
