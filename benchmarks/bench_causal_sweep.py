"""Interchange along many directions on matched pairs: conditions share a batch, against one forward each.

Both run the same untrained organism on one thread and end where the outcome is read; the results are compared first.
The peer is the loop that one writes with plain Hugging Face hooks: a forward for each pair and direction.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.timing import Row, compare
from mechprobe.causal.cases import Case, natural_cases, render_pairs
from mechprobe.causal.controls import random_directions
from mechprobe.causal.effects import interchange_plan
from mechprobe.causal.effects import measure as run_grid
from mechprobe.causal.sites import Site, SiteActs, site_acts
from mechprobe.models.organism.datasets import DatasetConfig, draw_pairs
from mechprobe.models.organism.roles import draw_roles
from mechprobe.models.organism.training import OrganismConfig, build_model, save_organism
from mechprobe.models.subject import Subject

LAYER, N_DIRECTIONS, N_PAIRS = 0, 20, 36
SITE = Site(hook_name=f"blocks.{LAYER}.hook_out", position="span_last")
OUTCOME = "behavior"


def one_by_one(
    model: nn.Module, cases: list[Case], acts: SiteActs, directions: Tensor
) -> np.ndarray:
    """A forward with a hook for each direction and pair."""
    found = np.empty((len(directions), len(cases)))
    block = model.get_submodule(f"model.layers.{LAYER}")
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


def measure() -> Row:
    """One pair of each natural side for each of 18 indicators, 20 directions."""
    roles = draw_roles(0)
    config = DatasetConfig(pairs_select=1, pairs_test=1)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        model = build_model(OrganismConfig()).eval()
        save_organism(model, Path(name))
        model.float()  # saving rounded the weights to half precision, for both sides
        subject = Subject.load(Path(name))
        pairs = [pair for pair in draw_pairs(roles, config) if pair.split == "test"][:N_PAIRS]
        cases = natural_cases(render_pairs(subject, pairs))
        acts = site_acts(subject, cases, SITE, OUTCOME)
        directions = random_directions(N_DIRECTIONS, subject.d_model, seed=0)

        def ours() -> np.ndarray:
            plan = interchange_plan(acts, directions)
            return run_grid(
                subject, cases, OUTCOME, plan=plan, n_conditions=N_DIRECTIONS
            ).logit_diff

        def peer() -> np.ndarray:
            return one_by_one(model, cases, acts, directions)

        gap = np.abs(ours() - peer()).max()
        assert gap <= 1e-4, f"the two sweeps differ by {gap}"
        timed = compare(
            f"causal_sweep[{N_DIRECTIONS} directions, {len(cases)} pairs, d={subject.d_model}, "
            f"{subject.n_layers} layers]",
            ours,
            peer,
            amount=N_DIRECTIONS * len(cases),
            unit="runs",
            peer_name="plain Hugging Face hooks, one forward a run",
            command="python -m benchmarks.run causal_sweep",
            rounds=5,
        )
    torch.set_num_threads(n_threads)
    return timed
