"""What a model loses when it goes on from an SAE's reconstruction, and what the part that the SAE leaves out carries.

Five runs of the same tokens: as they are; from the reconstruction alone; from the error term alone (the activation minus
its reconstruction, put where the mean activation is); from zeros; from the mean. Reconstruction plus error term is the
activation itself and needs no run. Scores are sae-lens': 1 as good as the model, 0 as bad as zeros.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechprobe.errors import ShapeError
from mechprobe.models.batches import TokenBatch, length_sorted_batches
from mechprobe.models.hooks import Edit
from mechprobe.models.subject import Subject
from mechprobe.saes.attachment import error_term
from mechprobe.saes.lens import Sae

ARMS = ("reconstruction", "error", "zero", "mean")
LOSS_COLUMNS = ("subset", "arm", "n_tokens", "ce", "ce_clean", "kl", "ce_score", "kl_score")
ALL = "all"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenLosses:
    """Losses of every prediction, sequence after sequence; the last token of each predicts nothing that is known."""

    ce_clean: Float[np.ndarray, "prediction"]
    """Cross-entropy of the next token, in nats."""
    ce: Float[np.ndarray, "arm prediction"]
    kl: Float[np.ndarray, "arm prediction"]
    """Divergence of each arm's predictions from the unedited model's, in nats."""


def loss_recovered(
    subject: Subject,
    sae: Sae,
    hook_name: str,
    sequences: Sequence[Sequence[int]],
    subsets: Mapping[str, Sequence[Sequence[bool]]] | None = None,
    *,
    mean: Float[Tensor, "d_in"] | None = None,
    batch_tokens: int = 4096,
) -> pd.DataFrame:
    """Losses under each arm, over all predictions and over subsets: columns LOSS_COLUMNS, a row for each.

    Args:
        sequences: token ids, each of at least two.
        subsets: name -> for each sequence whether each of its tokens, as the one that predicts the next, belongs to it.
        mean: activation that the mean arm and the error arm use; None for that of these tokens.

    Raises:
        ModelError: the model is an encoder.
        ShapeError: a sequence is too short, or a subset does not fit the sequences.
    """
    _check(sequences, subsets or {})
    if mean is None:
        mean = mean_activation(subject, hook_name, sequences, batch_tokens)
    losses = token_losses(subject, sae, hook_name, sequences, mean, batch_tokens)
    rows: list[dict[str, object]] = []
    for name, member in {ALL: None, **(subsets or {})}.items():
        chosen = _chosen(sequences, member)
        if chosen.any():
            rows += [_row(losses, name, arm, chosen) for arm in range(len(ARMS))]
    return pd.DataFrame(rows, columns=list(LOSS_COLUMNS))


@torch.no_grad()
def token_losses(
    subject: Subject,
    sae: Sae,
    hook_name: str,
    sequences: Sequence[Sequence[int]],
    mean: Float[Tensor, "d_in"],
    batch_tokens: int = 4096,
) -> TokenLosses:
    """Losses of every prediction under every arm, in the order of the sequences."""
    edits = [Edit(hook_name=hook_name, apply=change) for change in _changes(sae, mean)]
    found: dict[int, Float[np.ndarray, "figure prediction"]] = {}
    lengths = [len(sequence) for sequence in sequences]
    switch = subject.rotary_switch
    for chosen in length_sorted_batches(lengths, batch_tokens, apart_from=switch):
        batch = TokenBatch.of([sequences[at] for at in chosen], subject.pad_id)
        clean = subject.run(batch).float().log_softmax(-1)
        figures = [_next_loss(clean, batch.token_ids)]
        arms = [subject.run(batch, edits=[edit]).float().log_softmax(-1) for edit in edits]
        figures += [_next_loss(arm, batch.token_ids) for arm in arms]
        figures += [((clean.exp() * (clean - arm)).sum(-1))[:, :-1] for arm in arms]
        stacked = torch.stack(figures).double().cpu().numpy()
        for at, sequence in enumerate(chosen):
            found[sequence] = stacked[:, at, : lengths[sequence] - 1]
    table = np.concatenate([found[at] for at in range(len(sequences))], axis=1)
    return TokenLosses(ce_clean=table[0], ce=table[1 : 1 + len(ARMS)], kl=table[1 + len(ARMS) :])


def mean_activation(
    subject: Subject, hook_name: str, sequences: Sequence[Sequence[int]], batch_tokens: int = 4096
) -> Float[Tensor, "d_in"]:
    """Mean activation over all tokens."""
    total, count = torch.zeros(subject.width(hook_name), dtype=torch.float64), 0
    lengths, switch = [len(s) for s in sequences], subject.rotary_switch
    for chosen in length_sorted_batches(lengths, batch_tokens, apart_from=switch):
        batch = TokenBatch.of([sequences[at] for at in chosen], subject.pad_id)
        acts = subject.capture(batch, [hook_name])[hook_name].cpu()
        total += acts[batch.mask].double().sum(0)
        count += int(batch.mask.sum())
    return (total / count).float()


def _changes(sae: Sae, mean: Float[Tensor, "d_in"]) -> list[Callable[[Tensor, object], Tensor]]:
    """What each of ARMS puts in the place of the activations."""

    def reconstruction(acts: Tensor, where: object) -> Tensor:  # noqa: ARG001 - all positions
        return sae.decode(sae.encode(acts)).to(acts.dtype)

    def error(acts: Tensor, where: object) -> Tensor:  # noqa: ARG001
        return error_term(sae, acts) + mean.to(acts)

    def zero(acts: Tensor, where: object) -> Tensor:  # noqa: ARG001
        return torch.zeros_like(acts)

    def average(acts: Tensor, where: object) -> Tensor:  # noqa: ARG001
        return mean.to(acts).expand_as(acts).clone()

    return [reconstruction, error, zero, average]


def _next_loss(
    log_probs: Float[Tensor, "case pos vocab"], token_ids: Tensor
) -> Float[Tensor, "case prediction"]:
    following = token_ids[:, 1:].to(log_probs.device)
    return -log_probs[:, :-1].gather(-1, following[..., None])[..., 0]


def _row(
    losses: TokenLosses, subset: str, arm: int, chosen: Bool[np.ndarray, "prediction"]
) -> dict[str, object]:
    clean = float(losses.ce_clean[chosen].mean())
    ce, kl = losses.ce[:, chosen].mean(axis=1), losses.kl[:, chosen].mean(axis=1)
    zero = ARMS.index("zero")
    return {
        "subset": subset,
        "arm": ARMS[arm],
        "n_tokens": int(chosen.sum()),
        "ce": float(ce[arm]),
        "ce_clean": clean,
        "kl": float(kl[arm]),
        "ce_score": _share(ce[zero] - ce[arm], ce[zero] - clean),
        "kl_score": _share(kl[zero] - kl[arm], kl[zero]),
    }


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _chosen(
    sequences: Sequence[Sequence[int]], member: Sequence[Sequence[bool]] | None
) -> Bool[np.ndarray, "prediction"]:
    if member is None:
        return np.ones(sum(len(sequence) - 1 for sequence in sequences), dtype=bool)
    return np.concatenate([np.asarray(one, dtype=bool)[:-1] for one in member])


def _check(
    sequences: Sequence[Sequence[int]], subsets: Mapping[str, Sequence[Sequence[bool]]]
) -> None:
    lengths = [len(sequence) for sequence in sequences]
    if not lengths or min(lengths) < 2:
        raise ShapeError(
            f"losses need sequences of at least two tokens; the shortest of {len(lengths)} has "
            f"{min(lengths, default=0)}."
        )
    for name, member in subsets.items():
        if [len(one) for one in member] != lengths:
            raise ShapeError(
                f"subset {name!r} marks other numbers of tokens than the sequences have; give one mark for each token."
            )
