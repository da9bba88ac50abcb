"""The loss and gradients of TopK, BatchTopK and Matryoshka BatchTopK, at the cost of about one dense product.

Only the encoder looks at all features. Reconstruction and the gradients of both weights touch the active pairs alone,
k of d_sae, in row sums that one sort of the pairs by feature serves. The gradients are those of sae-lens' own training
loss, none left out: the decoder bias is also subtracted from the encoder's input, so it gets what the pre-activations
send back; and where activations are rescaled by the decoder's norms, the norm that encoding multiplies by is what
decoding divides by, so that the loss sees the pre-activation itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from mechprobe.saes.training.reviving import auxiliary_gradients
from mechprobe.saes.training.selecting import ActivePairs, Encoder, Selector
from mechprobe.saes.training.weights import Weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Gradients:
    """What one batch gives: a gradient for each of `Weights`, and what it is made of."""

    enc: Float[Tensor, "d_sae d_in"]
    b_enc: Float[Tensor, "d_sae"]
    dec: Float[Tensor, "d_sae d_out"]
    b_dec: Float[Tensor, "d_out"]
    losses: Mapping[str, Float[Tensor, ""]]
    """sae-lens' names -> mean over tokens of the summed squared error."""
    n_fired: Int[Tensor, "d_sae"]
    """Tokens that each feature is active on."""
    lowest: Float[Tensor, ""] | None
    """The smallest feature activation; None where nothing is active."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseLoss:
    """What is minimised."""

    select: Selector
    rescaled: bool = True
    """Features are chosen by activations in units of the output (sae-lens' rescale_acts_by_decoder_norm)."""
    centred: bool = True
    """The decoder bias is taken off the input (apply_b_dec_to_input)."""
    levels: tuple[int, ...] = ()
    """Matryoshka (arXiv 2503.17547): the first features of each width reconstruct on their own; the last is d_sae."""
    auxiliary: float = 1.0
    """Weight of the error that dead features are made to explain."""
    coarse: bool = False
    """Look for the active features in bfloat16."""

    @torch.no_grad()
    def gradients(
        self,
        weights: Weights,
        x: Float[Tensor, "tok d_in"],
        target: Float[Tensor, "tok d_out"],
        dead: Bool[Tensor, "d_sae"] | None = None,
    ) -> Gradients:
        """The loss of a batch and its gradients.

        Args:
            target: what is reconstructed: x, or for a transcoder what stands at its other hook point.
            dead: features that have not fired for long; None or none for no auxiliary loss.
        """
        seen = x - weights.b_dec if self.centred else x
        norms = weights.dec.norm(dim=-1) if self.rescaled else None
        pairs = self.select(_encoder(weights, norms, coarse=self.coarse), seen)
        levels = self.levels or (len(weights.dec),)
        error, codes, code_gradient = _decoded(pairs, weights, norms, target, levels)
        shared = _by_feature(pairs, levels, len(weights.dec))
        # What a pair of level l adds is in the sums of level l and of all wider ones.
        sent = _summed_back(error).mul_(2 / len(x))
        (dcodes,) = torch.autograd.grad(codes, code_gradient, sent.flatten(0, 1))
        order = shared.order
        dec = shared.sums(sent.flatten(0, 1), shared.bag, code_gradient.detach()[order])
        enc = shared.sums(seen, pairs.token[order], dcodes[order])
        b_enc = torch.segment_reduce(dcodes[order], "sum", lengths=shared.counts, unsafe=True)
        losses = _named(error.square().sum(2).mean(0), levels)
        if dead is not None and bool(dead.any()) and self.auxiliary:
            found = auxiliary_gradients(
                weights, seen, -error[:, -1], dead, norms, coefficient=self.auxiliary
            )
            enc[found.features] += found.enc
            dec[found.features] += found.dec
            b_enc[found.features] += found.b_enc
            losses["auxiliary_reconstruction_loss"] = found.loss
        b_dec = sent[:, 0].sum(0)
        if self.centred:
            b_dec -= b_enc @ weights.enc
        return Gradients(
            enc=enc,
            b_enc=b_enc,
            dec=dec,
            b_dec=b_dec,
            losses=losses,
            n_fired=shared.counts,
            lowest=pairs.act.min() if len(pairs.act) else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _ByFeature:
    """The pairs sorted by feature: one sort for every sum over tokens."""

    order: Int[Tensor, "pair"]
    bag: Int[Tensor, "pair"]
    """Token and level of each sorted pair, as one number."""
    starts: Int[Tensor, "d_sae"]
    counts: Int[Tensor, "d_sae"]

    def sums(
        self,
        rows: Float[Tensor, "row d"],
        index: Int[Tensor, "pair"],
        weight: Float[Tensor, "pair"],
    ) -> Float[Tensor, "d_sae d"]:
        """For each feature the weighted sum of the rows that its pairs name."""
        return embedding_bag(index, rows, self.starts, per_sample_weights=weight, mode="sum")


def _encoder(weights: Weights, norms: Tensor | None, *, coarse: bool) -> Encoder:
    if norms is None:
        return Encoder(rows=weights.enc, bias=weights.b_enc, coarse=coarse)
    return Encoder(rows=weights.enc * norms[:, None], bias=weights.b_enc * norms, coarse=coarse)


def _decoded(
    pairs: ActivePairs,
    weights: Weights,
    norms: Tensor | None,
    target: Float[Tensor, "tok d_out"],
    levels: tuple[int, ...],
) -> tuple[Float[Tensor, "tok level d_out"], Tensor, Tensor]:
    """The error of each level, the sums that autograd knows, and the codes that they are sums over."""
    codes = pairs.act if norms is None else pairs.act / norms[pairs.feature]
    codes = codes.detach().requires_grad_()
    bag = _bag(pairs.token, pairs.feature, levels)
    bags = torch.arange(pairs.n_tokens * len(levels), device=bag.device)
    with torch.enable_grad():
        sums = embedding_bag(
            pairs.feature,
            weights.dec,
            torch.searchsorted(bag, bags),
            per_sample_weights=codes,
            mode="sum",
        )
    error = sums.detach().clone().unflatten(0, (pairs.n_tokens, len(levels)))
    error[:, 0] += weights.b_dec - target
    for level in range(1, len(levels)):
        error[:, level] += error[:, level - 1]
    return error, sums, codes


def _summed_back(error: Float[Tensor, "tok level d_out"]) -> Float[Tensor, "tok level d_out"]:
    sums = error.clone()
    for level in range(error.shape[1] - 1, 0, -1):
        sums[:, level - 1] += sums[:, level]
    return sums


def _bag(token: Tensor, feature: Tensor, levels: tuple[int, ...]) -> Int[Tensor, "pair"]:
    if len(levels) == 1:
        return token
    bounds = torch.tensor(levels, device=feature.device)
    return token * len(levels) + torch.bucketize(feature, bounds, right=True)


def _by_feature(pairs: ActivePairs, levels: tuple[int, ...], d_sae: int) -> _ByFeature:
    order = pairs.feature.argsort(stable=True)
    counts = torch.bincount(pairs.feature, minlength=d_sae)
    return _ByFeature(
        order=order,
        bag=_bag(pairs.token[order], pairs.feature[order], levels),
        starts=counts.cumsum(0) - counts,
        counts=counts,
    )


def _named(errors: Float[Tensor, "level"], levels: tuple[int, ...]) -> dict[str, Tensor]:
    """sae-lens calls the widest level's error the squared error, and the others inner ones."""
    inner = {f"inner_mse_loss_{width}": loss for width, loss in zip(levels[:-1], errors)}  # noqa: B905
    return {"mse_loss": errors[-1], **inner}
