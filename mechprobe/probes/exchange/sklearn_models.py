"""Fitted linear models of scikit-learn, in memory, as probes of this project."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from jaxtyping import Float64
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from mechprobe.errors import CheckpointError
from mechprobe.probes.bank import ProbeBank
from mechprobe.probes.estimators import Reads
from mechprobe.probes.exchange.artefact import Artefact, canonical_hook_name, key_of
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.solving.standardise import Scaling

_N_CHECKED = 16
"""Random rows on which the probe must score as the model does."""


def import_sklearn(
    models: Mapping[str, Any],
    *,
    hook_name: str,
    model: str | None = None,
    scorer: str = "sklearn",
    reads: Reads = "acts",
) -> Artefact:
    """Fitted models, one for each indicator, as a bank.

    Args:
        models: indicator -> LogisticRegression, Ridge, LDA, LinearSVC, ..., or a Pipeline of scalers and one of them.
        hook_name: where the rows were read that they were fitted on.
        model: whose activations those were.

    Raises:
        CheckpointError: a model is not fitted, not linear in the rows, or not of two classes.
    """
    read = {name: sklearn_probe(fitted, name) for name, fitted in models.items()}
    one = ProbeSet(
        scorer=scorer,
        hook_name=canonical_hook_name(hook_name),
        reads=reads,
        indicators=tuple(read),
        probes=tuple(probe for probe, _ in read.values()),
    )
    scalings = [scaling for _, scaling in read.values() if scaling]
    return Artefact(
        bank=ProbeBank(sets=(one,), model=model),
        origin="scikit-learn",
        scalings={key_of(one): tuple(scalings)} if len(scalings) == len(read) else {},
    )


def sklearn_probe(fitted: Any, name: str = "model") -> tuple[LinearProbe, Scaling | None]:
    """One fitted model as a probe on raw rows, and its scaling if it has exactly one.

    The score is `decision_function`, or `predict` for a regression; that is checked on random rows.

    Raises:
        CheckpointError: the model is not fitted, not linear in the rows, or not of two classes.
    """
    steps: list[Any] = [fitted]
    if isinstance(fitted, Pipeline):
        steps = [
            step for _, step in cast(list[tuple[str, Any]], fitted.steps) if step != "passthrough"
        ]
    last = steps[-1]
    weight, bias = _coefficients(last, name)
    scalings = [_scaling(step, name) for step in steps[:-1]]
    raw, raw_bias = weight[:, None], np.array([bias])
    for scaling in reversed(scalings):
        raw, raw_bias = scaling.fold(raw, raw_bias)
    _check_scores(fitted, raw[:, 0], float(raw_bias[0]), scalings, name)
    probe = LinearProbe(
        kind=f"sklearn_{type(last).__name__}",
        weight=raw[:, 0].astype(np.float32),
        bias=float(raw_bias[0]),
    )
    return probe, scalings[0] if len(scalings) == 1 else None


def _coefficients(last: Any, name: str) -> tuple[Float64[np.ndarray, "d"], float]:
    weight, bias = getattr(last, "coef_", None), getattr(last, "intercept_", None)
    if weight is None or bias is None:
        raise CheckpointError(
            f"the model for {name!r} is a {type(last).__name__} without coef_ and intercept_; give a linear one that "
            "has been fitted."
        )
    classes = getattr(last, "classes_", (0, 1))
    weight, bias = np.asarray(weight, np.float64), np.asarray(bias, np.float64).reshape(-1)
    if len(classes) != 2 or weight.size != weight.shape[-1] or len(bias) != 1:
        raise CheckpointError(
            f"the model for {name!r} has {len(classes)} classes and coefficients of shape {list(weight.shape)}; give "
            "one model of two classes for each indicator."
        )
    return weight.reshape(-1), float(bias[0])


def _scaling(step: Any, name: str) -> Scaling:
    if not isinstance(step, StandardScaler):
        raise CheckpointError(
            f"the pipeline for {name!r} has a {type(step).__name__}, which cannot be folded into a direction; only "
            "StandardScaler can."
        )
    fitted: Any = step
    mean, scale = getattr(fitted, "mean_", None), getattr(fitted, "scale_", None)
    width = int(fitted.n_features_in_)
    return Scaling(
        mean=np.zeros(width) if mean is None or not fitted.with_mean else np.asarray(mean),
        factor=np.ones(width) if scale is None else 1 / np.asarray(scale),
    )


def _check_scores(
    fitted: Any, weight: np.ndarray, bias: float, scalings: list[Scaling], name: str
) -> None:
    """Raise unless the direction scores rows as the model does, whatever the model does inside."""
    rows = np.random.default_rng(0).normal(size=(_N_CHECKED, len(weight)))
    if scalings:
        rows = scalings[0].mean + rows / scalings[0].factor
    score = getattr(fitted, "decision_function", None) or fitted.predict
    wanted = np.asarray(score(rows), dtype=np.float64).reshape(-1)
    found = rows @ weight + bias
    if not np.allclose(found, wanted, rtol=1e-6, atol=1e-6 * (1 + np.abs(wanted).max())):
        gap = float(np.abs(found - wanted).max())
        raise CheckpointError(
            f"the model for {name!r} does not score rows by coef_ and intercept_ (it differs by {gap:.3g}); only linear "
            "models can be imported."
        )
