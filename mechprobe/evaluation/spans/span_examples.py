"""Labelled spans as rows: what each is to every indicator, its text, and what stands at its token."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float, Int, Int8, Integer

from mechprobe.baselines.text import LabelledTexts
from mechprobe.errors import ShapeError
from mechprobe.probes.estimators import Reads
from mechprobe.probes.labels.examples import labels_of
from mechprobe.probes.matrix import Matrix, size_of, take_rows


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SpanExamples:
    """One row a labelled span, or a side of a matched pair.

    Raises:
        ShapeError: the columns differ in length.
    """

    indicators: tuple[str, ...]
    kinds: Int8[np.ndarray, "span indicator"]
    """What the span is to each indicator: codes of `probes.labels.examples`."""
    keys: pd.DataFrame
    """Columns transcript_id, turn, span_id; rows of one transcript_id are resampled together, so the sides of
    a pair carry the id of the transcript that occurs naturally."""
    texts: tuple[str, ...]
    """What text baselines read: the span's text; for a pair, all of the text in which the sides may differ."""
    token_ids: Int[np.ndarray, "span"]
    """The token that the probe reads at."""
    splits: tuple[str, ...]
    """"fit", "select" or "test" of each row."""
    acts: Mapping[str, Float[np.ndarray, "span _"]]
    """Hook name -> activations at the span's token."""
    features: Mapping[str, sp.csr_matrix] = field(default_factory=dict[str, sp.csr_matrix])
    """Hook name -> features of the SAE there, for the hook points that have one."""

    def __post_init__(self) -> None:
        n_spans = len(self.kinds)
        sizes = {
            "keys": len(self.keys),
            "texts": len(self.texts),
            "token_ids": len(self.token_ids),
            "splits": len(self.splits),
            **{f"acts[{name!r}]": X.shape[0] for name, X in self.acts.items()},
            **{f"features[{name!r}]": size_of(X)[0] for name, X in self.features.items()},
        }
        for name, size in sizes.items():
            if size != n_spans:
                raise ShapeError(
                    f"{name} has {size} rows for {n_spans} spans; give one for each span."
                )
        if self.kinds.shape[1] != len(self.indicators):
            raise ShapeError(
                f"kinds has {self.kinds.shape[1]} columns for {len(self.indicators)} indicators."
            )

    @property
    def labels(self) -> Int8[np.ndarray, "span indicator"]:
        """1 positive, 0 negative, -1 left out."""
        return labels_of(self.kinds)

    @property
    def labelled_texts(self) -> LabelledTexts:
        """The texts with their labels."""
        return LabelledTexts(texts=self.texts, labels=self.labels)

    def matrix(self, hook_name: str, reads: Reads) -> Matrix:
        """What a scorer reads at a hook point."""
        return self.acts[hook_name] if reads == "acts" else self.features[hook_name]

    def split(self, name: str) -> "SpanExamples":
        """The rows of a split."""
        return self.take(np.flatnonzero(np.array(self.splits) == name))

    def take(self, rows: Integer[np.ndarray, "chosen"]) -> "SpanExamples":
        """Some of the rows."""
        return SpanExamples(
            indicators=self.indicators,
            kinds=self.kinds[rows],
            keys=self.keys.take(rows).reset_index(drop=True),
            texts=tuple(self.texts[row] for row in rows),
            token_ids=self.token_ids[rows],
            splits=tuple(self.splits[row] for row in rows),
            acts={name: X[rows] for name, X in self.acts.items()},
            features={name: sp.csr_matrix(take_rows(X, rows)) for name, X in self.features.items()},
        )

    def ask_for(self, indicators: Integer[np.ndarray, "kept"]) -> "SpanExamples":
        """The same rows with some of the indicators, by column."""
        kept = tuple(self.indicators[at] for at in indicators)
        return replace(self, indicators=kept, kinds=self.kinds[:, indicators])
