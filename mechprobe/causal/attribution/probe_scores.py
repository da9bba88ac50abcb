"""A linear probe's score as an exact sum over SAE features: the probe's weight read through the decoder.

x = sum of feature x decoder row + error term + decoder bias, so weight . x + bias falls into feature x (weight . decoder
row), the weight on the error term, and a constant. Nothing is approximated. The feature's Shapley value (SHAP, arXiv
1705.07874) is its contribution minus its mean contribution over the background.
"""

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.causal.attribution.contributions import Contributions, priced, split_acts
from mechprobe.causal.attribution.runs import AskedTokens
from mechprobe.errors import ShapeError
from mechprobe.probes.explaining.explanations import attribute
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.matrix import column_means, size_of
from mechprobe.saes.encoding import encode_rows
from mechprobe.saes.lens import Sae, decoder_rows

EXACT_LINEAR = "probe_through_decoder"


def attribute_score(
    probe: LinearProbe,
    sae: Sae,
    acts: Float[Tensor, "row d"],
    tokens: AskedTokens,
    hook_name: str,
) -> Contributions:
    """Split a probe's scores of tokens; `total` is the score.

    Raises:
        CheckpointError: the SAE reads another width, or its features have no fixed direction.
        ShapeError: the probe reads another width, or there is not one row a token.
    """
    if probe.width != acts.shape[-1] or len(acts) != len(tokens.row_case):
        raise ShapeError(
            f"the probe reads {probe.width} numbers and there are {len(tokens.row_case)} tokens; the activations are "
            f"{tuple(acts.shape)}: take them at the hook point that the probe was fitted on."
        )
    own = split_acts(sae, acts)
    weight = torch.from_numpy(probe.weight).double()
    return Contributions(
        hook_name=hook_name,
        method=EXACT_LINEAR,
        reference="zero",
        case=tokens.row_case.numpy(),
        position=tokens.row_position.numpy(),
        span=tokens.row_span.numpy(),
        features=priced(own.features, weight.expand(len(acts), -1), decoder_rows(sae)),
        error=(own.error.double().cpu() @ weight).numpy(),
        constant=_constant(probe, sae),
    )


def probe_on_features(probe: LinearProbe, sae: Sae) -> LinearProbe:
    """The same probe as one of SAE features; it scores what the SAE reconstructs, so the error term is left out."""
    weight = decoder_rows(sae).detach().double().cpu() @ torch.from_numpy(probe.weight).double()
    return LinearProbe(
        kind=probe.kind,
        weight=weight.numpy().astype(np.float32),
        bias=_constant(probe, sae),
        settings=probe.settings,
    )


def shap_gap(
    probe: LinearProbe,
    sae: Sae,
    acts: Float[Tensor, "row d"],
    background: Float[Tensor, "background d"],
) -> float:
    """Largest difference between a linear SHAP value of a feature and its contribution minus the mean contribution.

    Rounding alone, unless one of the two is wrong.

    Raises:
        CheckpointError, ShapeError: see `attribute_score`.
    """
    through = probe_on_features(probe, sae)
    own, usual = encode_rows(sae, acts.float()), encode_rows(sae, background.float())
    shap = attribute(through, own, usual).columns(np.arange(through.width))
    weight = torch.from_numpy(probe.weight)
    rows = decoder_rows(sae)
    contribution, mean = (_priced(features, weight, rows) for features in (own, usual))
    return float(np.abs(contribution.toarray() - column_means(mean) - shap).max(initial=0.0))


def _priced(features: sp.csr_matrix, weight: Tensor, rows: Tensor) -> sp.csr_matrix:
    return priced(features, weight.expand(size_of(features)[0], -1), rows)


def _constant(probe: LinearProbe, sae: Sae) -> float:
    bias = sae.b_dec.detach().double().cpu() @ torch.from_numpy(probe.weight).double()
    return float(bias) + probe.bias
