"""Scores to probabilities: Platt's logistic curve and isotonic steps, fitted on units that are not tested on."""

import json
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float64, Num
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from mechprobe.errors import DataError, LabelError

MIN_POSITIVES = 5
"""Positives below which a calibration is refused: two numbers fitted to four units say nothing."""


@runtime_checkable
class Calibration(Protocol):
    """A fitted, monotone map from scores to the probability that a unit is positive."""

    def apply(self, scores: Num[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
        """Probabilities; NaN stays NaN."""
        ...

    def to_json(self) -> str:
        """Text that `calibration_from_json` turns into an equal calibration."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Platt:
    """The probability is the logistic function of slope * score + offset."""

    slope: float
    offset: float

    def apply(self, scores: Num[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
        """See Calibration."""
        return np.asarray(expit(self.slope * scores.astype(np.float64) + self.offset))

    def to_json(self) -> str:
        """See Calibration."""
        return json.dumps({"kind": "platt", "slope": self.slope, "offset": self.offset})


@dataclass(frozen=True, kw_only=True, slots=True)
class Isotonic:
    """The probability rises along straight lines between knots and is level outside them."""

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def apply(self, scores: Num[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
        """See Calibration."""
        return np.asarray(np.interp(scores.astype(np.float64), self.scores, self.probabilities))

    def to_json(self) -> str:
        """See Calibration."""
        knots = {"scores": self.scores, "probabilities": self.probabilities}
        return json.dumps({"kind": "isotonic", **knots})


def fit_platt(scores: Num[np.ndarray, "unit"], is_positive: Bool[np.ndarray, "unit"]) -> Platt:
    """Fit a logistic curve, with Platt's targets that keep it finite where the classes are separated.

    Source: Platt 1999; Lin, Lin and Weng 2007 (the Newton method).

    Raises:
        LabelError: there are fewer than 5 positives, no negative, a score that is not finite, or one value.
    """
    check_calibratable(scores, is_positive)
    n_pos, n_neg = int(is_positive.sum()), int((~is_positive).sum())
    targets = np.where(is_positive, (n_pos + 1) / (n_pos + 2), 1 / (n_neg + 2))
    center, spread = float(scores.mean()), float(scores.std())
    X = np.stack([(scores - center) / spread, np.ones(len(scores))], axis=1)
    weight = np.array([0.0, np.log((n_pos + 1) / (n_neg + 1))])
    weight = _newton(X, targets, weight)
    slope = float(weight[0]) / spread
    return Platt(slope=slope, offset=float(weight[1]) - slope * center)


def fit_isotonic(
    scores: Num[np.ndarray, "unit"], is_positive: Bool[np.ndarray, "unit"]
) -> Isotonic:
    """Fit the best rising steps (pool adjacent violators), joined by straight lines.

    Raises:
        LabelError: as `fit_platt`.
    """
    check_calibratable(scores, is_positive)
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    fitted.fit(scores.astype(np.float64), is_positive.astype(np.float64))
    return Isotonic(
        scores=tuple(fitted.X_thresholds_.tolist()),
        probabilities=tuple(fitted.y_thresholds_.tolist()),
    )


def calibration_from_json(text: str) -> Calibration:
    """The calibration that `to_json` wrote.

    Raises:
        DataError: the text holds none.
    """
    try:
        value: dict[str, Any] = json.loads(text)
        if value["kind"] == "platt":
            return Platt(slope=float(value["slope"]), offset=float(value["offset"]))
        if value["kind"] == "isotonic":
            scores, probabilities = value["scores"], value["probabilities"]
            return Isotonic(scores=tuple(scores), probabilities=tuple(probabilities))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{text[:60]!r} holds no calibration: {error}.") from error
    raise DataError(
        f"a calibration is of kind {value['kind']!r}; known are 'platt' and 'isotonic'."
    )


def check_calibratable(
    scores: Float[np.ndarray, "unit"] | Num[np.ndarray, "unit"],
    is_positive: Bool[np.ndarray, "unit"],
) -> None:
    """Raise LabelError where there is nothing that a calibration could be fitted to."""
    n_pos = int(is_positive.sum())
    n_neg = len(is_positive) - n_pos
    if n_pos < MIN_POSITIVES or not n_neg:
        raise LabelError(
            f"{n_pos} positive and {n_neg} negative units are too few to calibrate on; it takes at "
            f"least {MIN_POSITIVES} positives and a negative."
        )
    if not np.isfinite(scores).all():
        raise LabelError("a unit has no finite score; leave out units that were not scored.")
    if scores.min() == scores.max():
        raise LabelError(
            f"all {len(scores)} scores are {float(scores[0]):g}; a scorer that says one thing cannot "
            "be calibrated."
        )


def _newton(X: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The minimum of the mean log loss, by Newton steps that are halved until the loss falls."""

    def loss(at: np.ndarray) -> float:
        margin = X @ at
        return float((np.logaddexp(0.0, margin) - targets * margin).mean())

    for _ in range(100):
        probability = expit(X @ weight)
        gradient = X.T @ (probability - targets) / len(X)
        if np.abs(gradient).max() < 1e-12:
            break
        curvature = probability * (1 - probability)
        hessian = (X * curvature[:, None]).T @ X / len(X) + 1e-14 * np.eye(2)
        step, scale = np.linalg.solve(hessian, gradient), 1.0
        while loss(weight - scale * step) > loss(weight) and scale > 1e-10:
            scale /= 2
        weight = weight - scale * step
    return weight
