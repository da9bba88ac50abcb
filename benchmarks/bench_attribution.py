"""Attribution patching of every feature of an SAE, against patching each of them for real.

Both run the same untrained organism and a random SAE on one thread, on the same matched pairs. The peer is our own exact
patching, which shares what comes before the edited token; only features that differ from the partner are patched,
since the others do nothing. The two answer alike only to first order: how well is printed by `check_against_patching`.
"""

import tempfile
from pathlib import Path

import torch

from benchmarks.timing import Row, compare
from mechprobe.causal.attribution.agreement import changed_features, rank_correlation
from mechprobe.causal.attribution.exact import exact_effects
from mechprobe.causal.attribution.methods import Explained, attribute_outcome
from mechprobe.causal.attribution.runs import runs_of_cases
from mechprobe.causal.attribution.summary import mean_contributions
from mechprobe.causal.cases import natural_cases, render_pairs
from mechprobe.models.organism.datasets import DatasetConfig, draw_pairs
from mechprobe.models.organism.roles import draw_roles
from mechprobe.models.organism.training import OrganismConfig, build_model, save_organism
from mechprobe.models.subject import Subject
from mechprobe.saes.lens import import_sae_lens

HOOK, N_PAIRS, D_SAE, K = "blocks.0.hook_out", 36, 512, 12


def measure() -> Row:
    """Features explained for each second; the rank correlation of the two answers is printed."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measure()
    finally:
        torch.set_num_threads(n_threads)


def _measure() -> Row:
    with tempfile.TemporaryDirectory() as name:
        model = build_model(OrganismConfig()).eval()
        save_organism(model, Path(name))
        subject = Subject.load(Path(name))
    config = DatasetConfig(pairs_select=1, pairs_test=1)
    pairs = [pair for pair in draw_pairs(draw_roles(0), config) if pair.split == "test"][:N_PAIRS]
    runs = runs_of_cases(natural_cases(render_pairs(subject, pairs)), "behavior", "span_last")
    sae_lens = import_sae_lens()
    torch.manual_seed(0)
    sae = sae_lens.TopKSAE(sae_lens.TopKSAEConfig(d_in=subject.d_model, d_sae=D_SAE, k=K))
    sae.requires_grad_(False)

    def linear() -> Explained:
        return attribute_outcome(subject, runs, {HOOK: sae}, method="attribution_patching")[HOOK]

    found = linear()
    features = changed_features(found)
    exact = exact_effects(subject, runs, sae, found, features).of_features.mean(1)
    mean = mean_contributions(found.contributions, len(runs))[features]
    print(f"rank correlation of the two answers: {rank_correlation(mean, exact):.3f}")
    return compare(
        f"attribution_patching[{len(features)} features, {N_PAIRS} pairs, d={subject.d_model}]",
        linear,
        lambda: exact_effects(subject, runs, sae, found, features),
        amount=len(features),
        unit="features",
        peer_name="our exact patching of each feature",
        command="python -m benchmarks.run attribution",
        rounds=3,
        warm_up=False,
    )
