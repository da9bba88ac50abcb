"""Interchange along many directions on matched pairs: shared runs, against one forward each and against whole runs.

All run the same untrained organism on one thread and end where the outcome is read; the results are compared first.
The first peer is the loop that one writes with plain Hugging Face hooks: a forward for each pair and direction. The
second is our own sweep when the plan does not say which tokens it edits: whole sequences, in batches. The thought
stands in the middle of its sequence: 28 of 51 tokens on average come before it.
"""

import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.memory import peak_mib
from benchmarks.timing import Row, compare
from mechprobe.causal.cases import Case, natural_cases, render_pairs
from mechprobe.causal.checks.controls import random_directions
from mechprobe.causal.effects import EditPlan, interchange_plan
from mechprobe.causal.effects import measure as run_grid
from mechprobe.causal.places.sites import Site, SiteActs, site_acts
from mechprobe.models.organism.datasets import DatasetConfig, draw_pairs
from mechprobe.models.organism.roles import draw_roles
from mechprobe.models.organism.training import OrganismConfig, build_model, save_organism
from mechprobe.models.subject import Subject

N_PAIRS = 36
OUTCOME = "behavior"
COMMAND = "python -m benchmarks.run causal_sweep"


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """The number of directions, the block after which the model is edited, and the model."""

    n_directions: int
    layer: int
    organism: OrganismConfig

    def __str__(self) -> str:
        sizes = f"d={self.organism.d_model}, {self.organism.n_layers} layers"
        where = f", edited after layer {self.layer}" if self.layer else ""
        return f"{self.n_directions} directions, {N_PAIRS} pairs, {sizes}{where}"


SMALL = OrganismConfig()
WIDE = replace(SMALL, d_model=256, n_layers=6)
SETTINGS = (
    Setting(n_directions=20, layer=0, organism=SMALL),
    Setting(n_directions=100, layer=0, organism=SMALL),
    Setting(n_directions=20, layer=2, organism=WIDE),
)


def measure() -> list[Row]:
    """One pair of each natural side for each of 18 indicators."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [row for setting in SETTINGS for row in measure_setting(setting)]
    finally:
        torch.set_num_threads(n_threads)


def measure_setting(setting: Setting) -> list[Row]:
    """Speed against both peers, and peak memory against whole runs."""
    with tempfile.TemporaryDirectory() as name:
        model = build_model(setting.organism).eval()
        save_organism(model, Path(name))
        model.float()  # saving rounded the weights to half precision, for both sides
        subject = Subject.load(Path(name))
    config = DatasetConfig(pairs_select=1, pairs_test=1)
    pairs = [pair for pair in draw_pairs(draw_roles(0), config) if pair.split == "test"][:N_PAIRS]
    cases = natural_cases(render_pairs(subject, pairs))
    site = Site(hook_name=f"blocks.{setting.layer}.hook_out", position="span_last")
    acts = site_acts(subject, cases, site, OUTCOME)
    directions = random_directions(setting.n_directions, subject.d_model, seed=0)
    plan = interchange_plan(acts, directions)

    def sweep(plan: EditPlan) -> np.ndarray:
        n = setting.n_directions
        return run_grid(subject, cases, OUTCOME, plan=plan, n_conditions=n).logit_diff

    def shared() -> np.ndarray:
        return sweep(plan)

    def whole() -> np.ndarray:
        return sweep(plan.__call__)

    def each() -> np.ndarray:
        return one_by_one(model, cases, acts, directions, setting.layer)

    wanted = shared()
    for found in (whole(), each()):
        gap = np.abs(found - wanted).max()
        assert gap <= 1e-4, f"the two sweeps differ by {gap}"
    n_runs = setting.n_directions * len(cases)
    return [
        timed(
            f"causal_sweep[{setting}]",
            shared,
            each,
            n_runs,
            "plain Hugging Face hooks, one forward a run",
        ),
        timed(
            f"causal_sweep_sharing[{setting}]",
            shared,
            whole,
            n_runs,
            "our batches of whole sequences",
        ),
        memory(f"causal_sweep_memory[{setting}]", shared, whole),
    ]


def timed(
    name: str, ours: Callable[[], object], peer: Callable[[], object], n_runs: int, peer_name: str
) -> Row:
    """Runs for each second."""
    return compare(
        name, ours, peer, amount=n_runs, unit="runs", peer_name=peer_name, command=COMMAND, rounds=5
    )


def memory(name: str, ours: Callable[[], object], peer: Callable[[], object]) -> Row:
    """Peak memory in turns, of three rounds each."""
    rounds = [(peak_mib(ours), peak_mib(peer)) for _ in range(3)]
    ratios = sorted(theirs / own for own, theirs in rounds)
    return Row(
        name=name,
        ours=float(np.median([own for own, _ in rounds])),
        peer=float(np.median([theirs for _, theirs in rounds])),
        ratio=ratios[1],
        unit="MiB at peak",
        machine=f"{platform.machine()}, {os.cpu_count()} CPU cores, {platform.system()}",
        command=COMMAND,
        ratio_low=ratios[0],
        ratio_high=ratios[-1],
        rounds=len(rounds),
        peer_name="our batches of whole sequences",
    )


def one_by_one(
    model: nn.Module, cases: list[Case], acts: SiteActs, directions: Tensor, layer: int
) -> np.ndarray:
    """A forward with a hook for each direction and pair."""
    found = np.empty((len(directions), len(cases)))
    block = model.get_submodule(f"model.layers.{layer}")
    for row, direction in enumerate(directions):
        for column, case in enumerate(cases):
            token = int(acts.positions[column, 0])
            value = acts.partner[column, 0] @ direction

            def swap(_block: nn.Module, _inputs: object, out: Tensor) -> Tensor:
                out[:, token] += (value - out[:, token] @ direction)[:, None] * direction  # noqa: B023
                return out

            read = case.own.reads[OUTCOME].at
            ids = torch.from_numpy(case.own.token_ids[: read + 1])[None]
            handle = block.register_forward_hook(swap)
            with torch.no_grad():
                logits = model(input_ids=ids, logits_to_keep=1).logits[0, -1]
            handle.remove()
            answers = case.pair.outcomes[OUTCOME]
            bad, good = (logits[list(side)].logsumexp(0) for side in (answers.bad, answers.good))
            found[row, column] = float(bad - good)
    return found
