"""Known features found again: sae_lens.synthetic data, our training against sae-lens' trainer at the same tokens.

The score is sae-lens' mean correlation coefficient: the mean cosine of known features with the decoder rows that are matched
to them one to one.
"""

import os
import platform
import statistics
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import Row
from mechprobe.saes.lens import import_sae_lens
from mechprobe.saes.training.config import SaeConfig
from mechprobe.saes.training.trainer import Trainer
from mechprobe.saes.training.untrained import untrained_sae

N_FEATURES, WIDTH, K, BATCH, N_STEPS = 96, 48, 5, 512, 800
SEEDS = (0, 1, 2)


def measure() -> Row:
    """The mean score over seeds, of both."""
    scores = [scored(seed) for seed in SEEDS]
    ours, theirs = (statistics.mean(column) for column in zip(*scores, strict=True))
    ratios = [a / b for a, b in scores]
    return Row(
        name=f"sae_recovery[batchtopk {N_FEATURES} features in {WIDTH}, {N_STEPS * BATCH // 1000} k tokens]",
        ours=ours,
        peer=theirs,
        ratio=statistics.median(ratios),
        unit="mean cosine",
        machine=f"{platform.machine()}, {os.cpu_count()} CPU cores, {platform.system()}",
        command="python -m benchmarks.run sae_recovery",
        ratio_low=min(ratios),
        ratio_high=max(ratios),
        rounds=len(SEEDS),
        peer_name="sae-lens SAETrainer",
    )


def scored(seed: int, n_steps: int = N_STEPS) -> tuple[float, float]:
    """Ours and sae-lens' score, trained on the same batches from the same weights."""
    synthetic = import_sae_lens("sae_lens.synthetic")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features = synthetic.FeatureDictionary(num_features=N_FEATURES, hidden_dim=WIDTH)
        draw = synthetic.ActivationGenerator(
            num_features=N_FEATURES, firing_probabilities=K / N_FEATURES, std_firing_magnitudes=0.3
        )
        config = SaeConfig(
            d_sae=N_FEATURES, k=K, n_steps=n_steps, batch_size=BATCH, lr=3e-3, scale_inputs=False
        )
        ours, theirs = (
            untrained_sae(config, d_in=WIDTH, mean=torch.zeros(WIDTH), hook_name="synthetic")
            for _ in range(2)
        )
        trainer, peer = Trainer(ours, config, scale=1.0), _peer(config, theirs)
        for _ in range(n_steps):
            with torch.no_grad():
                acts: Tensor = features(draw.sample(BATCH))
            trainer.step(acts)
            peer.step(acts)
            peer.n_training_steps += 1
    known = features.feature_vectors.detach()
    score = synthetic.mean_correlation_coefficient
    return float(score(ours.W_dec.detach(), known)), float(score(theirs.W_dec.detach(), known))


def _peer(config: SaeConfig, sae: Any) -> Any:
    settings = import_sae_lens("sae_lens.config").SAETrainerConfig(
        total_training_samples=config.n_steps * config.batch_size,
        train_batch_size_samples=config.batch_size,
        lr=config.lr,
        lr_end=config.lr,
        lr_decay_steps=config.n_steps // 5,
        dead_feature_window=config.dead_window,
        feature_sampling_window=config.n_steps + 1,
    )
    return import_sae_lens().SAETrainer(settings, sae, iter(()))
