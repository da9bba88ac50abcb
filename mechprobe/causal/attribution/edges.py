"""From features at one hook point to features at a later one: first-order edges, checked by ablating upstream features.

An edge is what an upstream feature brings to a downstream one at the same first-order price as any contribution: its
activation times its decoder row, carried to the later hook point by the model's Jacobian and read there by the
downstream encoder (arXiv 2403.19647, section 3.2). One backward pass for each downstream feature prices every upstream
one, which equals a Jacobian-vector product along each decoder row. The exact edge is what the downstream feature loses
when the upstream one is switched off.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.causal.attribution.agreement import rank_correlation, sign_agreement
from mechprobe.causal.attribution.contributions import priced, split_acts
from mechprobe.causal.attribution.runs import AskedTokens
from mechprobe.causal.edits.feature_edits import set_feature_at
from mechprobe.causal.effects import BATCH_TOKENS
from mechprobe.errors import ConfigError
from mechprobe.models.batches import TokenBatch, length_sorted_batches
from mechprobe.models.gradients import gradients_of, record_pass
from mechprobe.models.subject import Subject
from mechprobe.saes.checkpoints import check_fits
from mechprobe.saes.lens import Sae, d_sae_of, decoder_rows

ERROR = "error term"
TOP, RANDOM = "top", "random"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SaeAt:
    """An SAE and where it stands."""

    hook_name: str
    sae: Sae


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Edges:
    """Edges into some downstream features, mean over the runs."""

    table: pd.DataFrame
    """Columns upstream (a feature or ERROR), downstream, kind ("top", "random", ERROR), linear, exact (NaN for the error
    term): in units of the downstream feature's activation, summed over the explained tokens."""
    spearman: float
    sign_agreement: float

    def line(self) -> str:
        """What is printed with every result."""
        n = int(np.count_nonzero(self.table["kind"] != ERROR))
        return (
            f"{n} edges checked by exact ablation of the upstream feature: rank correlation {self.spearman:.2f}, same "
            f"sign {self.sign_agreement:.2f}"
        )


def feature_edges(
    subject: Subject,
    tokens: AskedTokens,
    upstream: SaeAt,
    downstream: SaeAt,
    features: Sequence[int],
    *,
    m: int = 5,
    seed: int = 0,
    batch_tokens: int = BATCH_TOKENS,
) -> Edges:
    """The m strongest edges into each downstream feature, and m random ones, each ablated for real.

    Upstream features are switched off at the explained tokens; the downstream feature is read at the same tokens.

    Raises:
        CheckpointError: an SAE is of another hook point or width.
        ConfigError: a feature does not exist, or m is less than 1.
        HookError: a hook point does not exist, or the downstream one does not come after the upstream one.
    """
    if m < 1:
        raise ConfigError(f"m is {m}; at least 1 edge is to be checked (5 is usual).")
    for one in (upstream, downstream):
        canonical = subject.resolve(one.hook_name)
        check_fits(one.sae, subject.width(one.hook_name), canonical, resolve=subject.resolve)
    if subject.resolve(upstream.hook_name) == subject.resolve(downstream.hook_name):
        raise ConfigError(
            f"both SAEs stand at {upstream.hook_name}; edges lead from one hook point to a later one."
        )
    d_sae = d_sae_of(downstream.sae)
    if unknown := [feature for feature in features if not 0 <= feature < d_sae]:
        raise ConfigError(
            f"downstream feature {unknown[0]} does not exist; the SAE at {downstream.hook_name} has 0 to {d_sae - 1}."
        )
    linear, error = _linear(subject, tokens, upstream, downstream, features, batch_tokens)
    chosen, kinds = _chosen(linear, m, seed)
    exact = _exact(subject, tokens, upstream, downstream, features, chosen, batch_tokens)
    rows = [
        (str(f), str(features[k]), kinds[k][i], float(linear[k, f]), float(exact[k][i]))
        for k in range(len(features))
        for i, f in enumerate(chosen[k].tolist())
    ]
    rows += [
        (ERROR, str(feature), ERROR, float(error[k]), np.nan) for k, feature in enumerate(features)
    ]
    table = pd.DataFrame(rows, columns=["upstream", "downstream", "kind", "linear", "exact"])
    is_checked = np.asarray(table["kind"] != ERROR, dtype=bool)
    linears, exacts = (np.asarray(table[name], float)[is_checked] for name in ("linear", "exact"))
    return Edges(
        table=table,
        spearman=rank_correlation(linears, exacts),
        sign_agreement=sign_agreement(linears, exacts),
    )


def _linear(
    subject: Subject,
    tokens: AskedTokens,
    upstream: SaeAt,
    downstream: SaeAt,
    features: Sequence[int],
    batch_tokens: int,
) -> tuple[Float[np.ndarray, "downstream d_sae"], Float[np.ndarray, "downstream"]]:
    """Mean over runs of every edge, and of the upstream error term's."""
    n_up = d_sae_of(upstream.sae)
    total, error = np.zeros((len(features), n_up)), np.zeros(len(features))
    rows = decoder_rows(upstream.sae)
    names = [upstream.hook_name, downstream.hook_name]
    for batch, line, column, _chosen_cases in _batches(subject, tokens, batch_tokens):
        recording = record_pass(subject, batch, names)
        with torch.enable_grad():
            read = downstream.sae.encode(recording.acts[names[1]][line, column].float())
        here = split_acts(upstream.sae, recording.acts[names[0]].detach()[line, column])
        for k, feature in enumerate(features):
            gradients = gradients_of(read[:, feature].sum(), recording, names[:1], keep_graph=True)
            slope = gradients[names[0]][line, column].float().cpu()
            total[k] += np.asarray(priced(here.features, slope, rows).sum(axis=0)).ravel()
            error[k] += float((slope.double() * here.error.double()).sum())
    return total / len(tokens), error / len(tokens)


def _chosen(
    linear: Float[np.ndarray, "downstream d_sae"], m: int, seed: int
) -> tuple[list[Int[np.ndarray, "_"]], list[list[str]]]:
    rng = np.random.default_rng(seed)
    chosen: list[Int[np.ndarray, "_"]] = []
    kinds: list[list[str]] = []
    for row in linear:
        order = np.argsort(-np.abs(row), kind="stable")
        order = order[row[order] != 0]
        others = order[m:]
        random = rng.choice(others, size=min(m, len(others)), replace=False)
        chosen.append(np.concatenate([order[:m], random]))
        kinds.append([TOP] * len(order[:m]) + [RANDOM] * len(random))
    return chosen, kinds


def _exact(
    subject: Subject,
    tokens: AskedTokens,
    upstream: SaeAt,
    downstream: SaeAt,
    features: Sequence[int],
    chosen: Sequence[Int[np.ndarray, "_"]],
    batch_tokens: int,
) -> list[list[float]]:
    """What each downstream feature loses without each of its chosen upstream features."""
    lost: dict[int, Float[np.ndarray, "downstream"]] = {}
    for feature in np.unique(np.concatenate([*chosen, np.zeros(0, np.int64)])).astype(int):
        total = np.zeros(len(features))
        for batch, line, column, cases in _batches(subject, tokens, batch_tokens):
            positions = tokens.positions[cases]
            number = torch.full((len(cases),), int(feature))
            edit = set_feature_at(
                upstream.hook_name, positions, upstream.sae, number, torch.zeros(positions.shape)
            )
            name = downstream.hook_name
            clean = subject.capture(batch, [name])[name][line, column]
            edited = subject.capture(batch, [name], edits=[edit])[name][line, column]
            with torch.no_grad():
                change = downstream.sae.encode(clean.float()) - downstream.sae.encode(
                    edited.float()
                )
            total += change[:, list(features)].sum(0).double().cpu().numpy()
        lost[int(feature)] = total / len(tokens)
    return [[float(lost[int(f)][k]) for f in row] for k, row in enumerate(chosen)]


def _batches(
    subject: Subject, tokens: AskedTokens, batch_tokens: int
) -> list[tuple[TokenBatch, Int[Tensor, "row"], Int[Tensor, "row"], list[int]]]:
    """Padded batches with line and column of the explained tokens."""
    found: list[tuple[TokenBatch, Tensor, Tensor, list[int]]] = []
    for chosen in length_sorted_batches([len(row) for row in tokens.ids], batch_tokens):
        cases = list(chosen)
        positions = tokens.positions[cases]
        line, slot = torch.nonzero(positions >= 0, as_tuple=True)
        batch = TokenBatch.of([tokens.ids[case] for case in cases], subject.pad_id)
        found.append((batch, line, positions[line, slot], cases))
    return found
