"""How well fresh probes read an organism's thoughts at one token a clause."""

from typing import Any

import numpy as np
import torch

from mechprobe.evaluation.metrics import auroc
from mechprobe.models.organism.flips import ClauseSite, flip_batches
from mechprobe.models.organism.roles import RoleTable
from mechprobe.models.organism.vocabulary import INDICATORS
from mechprobe.probes.rows import LEFT_OUT, NEGATIVE, POSITIVE, LabelledRows
from mechprobe.probes.solving.logistic import fit_logistic

N_SCENES = 32


def probe_auroc(
    model: Any,
    roles: RoleTable,
    site: ClauseSite,
    *,
    seed: int,
    name: str,
    n_fit: int = 40,
    n_test: int = 20,
) -> dict[str, float]:
    """Mean and largest AUROC of logistic probes, a held thought against one that is only mentioned.

    The probes are fit and tested on scenes that training did not draw; chance is .5.

    Args:
        n_fit: batches of 32 scenes and their flips to fit on.
        n_test: batches to test on.
    """
    batches = flip_batches(roles, site, N_SCENES, np.random.default_rng([seed, 98]))
    fit, test = (_read(model, batches, site, n) for n in (n_fit, n_test))
    (probes,) = fit_logistic(fit, [1.0], seed=seed)
    found = [
        auroc(probe.score(test.X)[known], test.labels[known, i] == POSITIVE)
        for i, probe in enumerate(probes)
        for known in [test.labels[:, i] != LEFT_OUT]
    ]
    return {f"{name}_mean": float(np.mean(found)), f"{name}_max": float(np.max(found))}


@torch.no_grad()
def _read(model: Any, batches: Any, site: ClauseSite, n_batches: int) -> LabelledRows:
    model.eval()
    acts: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for _ in range(n_batches):
        batch = next(batches)
        hidden = model(batch.token_ids, output_hidden_states=True).hidden_states[site.layer + 1]
        acts.append(hidden[batch.at_site].numpy())
        known = np.where(batch.held.numpy() > 0, POSITIVE, NEGATIVE)
        labels.append(np.where(batch.mentioned.numpy(), known, LEFT_OUT).astype(np.int8))
    return LabelledRows(
        X=np.concatenate(acts), labels=np.concatenate(labels), indicators=INDICATORS
    )
