"""Attribution patching of whole activations over many hook points, each cell checked by the patch itself.

One backward pass gives the estimate for every hook point (arXiv 2403.00745, section 2); a patch gives one cell exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from mechprobe.causal.attribution.agreement import rank_correlation, sign_agreement
from mechprobe.causal.attribution.capturing import captured_rows, local_slopes
from mechprobe.causal.attribution.exact import acts_plan, outcomes
from mechprobe.causal.attribution.runs import Runs
from mechprobe.causal.effects import BATCH_TOKENS
from mechprobe.causal.verdicts.statistics import bootstrap_many
from mechprobe.errors import ConfigError
from mechprobe.models.subject import Subject


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HookPointMap:
    """What patching each hook point takes away, estimated and done."""

    table: pd.DataFrame
    """Columns hook_name, linear, low, high (95 %, transcripts resampled), exact; mean over the runs."""
    spearman: float
    sign_agreement: float

    def line(self) -> str:
        """What is printed with every result."""
        return (
            f"{len(self.table)} hook points checked by exact patching: rank correlation {self.spearman:.2f}, same sign "
            f"{self.sign_agreement:.2f}"
        )


def attribute_hook_points(
    subject: Subject,
    runs: Runs,
    hook_names: Sequence[str],
    *,
    n_boot: int = 1000,
    seed: int = 0,
    batch_tokens: int = BATCH_TOKENS,
) -> HookPointMap:
    """Estimate from one backward pass, and by patches, what each hook point's activations bring to the outcome.

    Raises:
        ConfigError: the runs have no partners.
        HookError: a hook point does not exist, or the outcome does not depend on it.
    """
    if runs.partner_ids is None or runs.partner_positions is None:
        raise ConfigError(
            "hook points are patched from partners, and these runs have none; give matched pairs."
        )
    names = list(dict.fromkeys(hook_names))
    local = local_slopes(subject, runs, names, batch_tokens=batch_tokens)
    partner = captured_rows(
        subject, runs.partner_ids, runs.partner_positions, names, batch_tokens=batch_tokens
    )
    linear = np.stack(
        [_by_case(runs, local.gradients[n], local.acts[n] - partner[n]) for n in names]
    )
    base = local.values.numpy()
    exact = np.array(
        [
            float((base - outcomes(subject, runs, acts_plan(runs, n, partner[n]), 1)[0]).mean())
            for n in tqdm(names, desc="patching hook points", disable=None)
        ]
    )
    bounds = bootstrap_many(linear.T, runs.clusters, n_boot=n_boot, seed=seed)
    table = pd.DataFrame(
        {
            "hook_name": names,
            "linear": linear.mean(1),
            "low": bounds[:, 0],
            "high": bounds[:, 1],
            "exact": exact,
        }
    )
    return HookPointMap(
        table=table,
        spearman=rank_correlation(linear.mean(1), exact),
        sign_agreement=sign_agreement(linear.mean(1), exact),
    )


def _by_case(
    runs: Runs, gradient: Float[Tensor, "row d"], change: Float[Tensor, "row d"]
) -> Float[np.ndarray, "case"]:
    worth = (gradient.double() * change.double()).sum(-1).numpy()
    return np.bincount(runs.row_case.numpy(), weights=worth, minlength=len(runs))
