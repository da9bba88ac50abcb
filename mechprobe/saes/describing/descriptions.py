"""Everything that a page shows of a feature, one feature after another, in one pass over the activations by feature."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mechprobe.errors import ConfigError
from mechprobe.saes.describing.company import Word, feature_words
from mechprobe.saes.examples import FeatureExample, TokenContext, band_rows
from mechprobe.saes.features import FeatureStore


@dataclass(frozen=True, kw_only=True, slots=True)
class DescribingConfig:
    """How much is shown of each feature."""

    n_top: int = 8
    """Strongest examples, one of each conversation."""
    n_bands: int = 3
    """Bands of equally many active tokens, each with examples of its own; 0 shows the strongest only."""
    n_per_band: int = 3
    """Examples drawn from each band."""
    context: int = 10
    """Tokens on either side of the example's own."""
    n_bars: int = 20
    """Bars of the histogram of activations, from 0 to the largest."""
    n_words: int = 6
    """Tokens of largest weight of evidence."""
    seed: int = 0
    """Of the examples that are drawn."""

    def __post_init__(self) -> None:
        if min(self.n_top, self.n_bars) < 1 or min(self.n_bands, self.n_per_band, self.context) < 0:
            raise ConfigError(
                f"n_top {self.n_top} and n_bars {self.n_bars} must be >= 1; n_bands {self.n_bands}, n_per_band "
                f"{self.n_per_band} and context {self.context} >= 0."
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Band:
    """Examples of middling activation."""

    low: float
    high: float
    """Activations of the band lie in (low, high]."""
    share: float
    """Of the feature's active tokens."""
    examples: list[FeatureExample]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FeatureDescription:
    """What is known of one feature from its activations."""

    feature: int
    n_active: int
    density: float
    """Share of encoded tokens that it is active on."""
    largest: float
    mean: float
    """Mean activation where it is active."""
    bars: Int[np.ndarray, "bar"]
    """Active tokens in equal steps of activation from 0 to the largest."""
    top: list[FeatureExample]
    bands: list[Band]
    """Weakest first."""
    words: list[Word]


def describe_features(
    features: FeatureStore,
    tokens: TokenContext,
    config: DescribingConfig | None = None,
    chosen: Sequence[int] | None = None,
) -> Iterator[FeatureDescription]:
    """Describe all features in order, or some; only one band of the index is mapped at a time.

    Args:
        tokens: of the activation store that was encoded.
    """
    config = config or DescribingConfig()
    among_all = np.bincount(tokens.token_ids[features.rows], minlength=tokens.n_kinds)
    source = (
        features.index.in_order()
        if chosen is None
        else ((feature, *features.feature(feature)) for feature in chosen)
    )
    for feature, rows, values in source:
        yield _describe(feature, rows, values, features.n_tokens, tokens, among_all, config)


def _describe(
    feature: int,
    rows: Int[np.ndarray, "active"],
    values: Float[np.ndarray, "active"],
    n_tokens: int,
    tokens: TokenContext,
    among_all: Int[np.ndarray, "vocab"],
    config: DescribingConfig,
) -> FeatureDescription:
    largest = float(values.max(initial=0.0))
    bars, _ = np.histogram(values, bins=config.n_bars, range=(0, largest or 1.0))
    top = tokens.top_rows(rows, values, config.n_top)
    return FeatureDescription(
        feature=feature,
        n_active=len(rows),
        density=len(rows) / max(n_tokens, 1),
        largest=largest,
        mean=float(values.mean()) if len(values) else 0.0,
        bars=bars,
        top=tokens.examples(top, rows, values, config.context),
        bands=_bands(feature, rows, values, tokens, config),
        words=feature_words(tokens.token_ids[rows], among_all, config.n_words),
    )


def _bands(
    feature: int,
    rows: Int[np.ndarray, "active"],
    values: Float[np.ndarray, "active"],
    tokens: TokenContext,
    config: DescribingConfig,
) -> list[Band]:
    if not len(rows) or not config.n_bands:
        return []
    edges = np.quantile(values, np.linspace(0, 1, config.n_bands + 1), method="higher")
    edges[0] = 0.0
    pairs = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    # Each feature draws from a generator of its own, so that one page is the same alone and among all.
    rng = np.random.default_rng([config.seed, feature])
    drawn = band_rows(rows, values, pairs, config.n_per_band, rng)
    return [
        Band(
            low=low,
            high=high,
            share=float(((values > low) & (values <= high)).mean()),
            examples=tokens.examples(some, rows, values, config.context),
        )
        for (low, high), some in zip(pairs, drawn, strict=True)
    ]
