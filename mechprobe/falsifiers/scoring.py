"""Scores of passages, natural or altered, by probes and single features: only what a passage needs is run.

Each conversation is cut behind the message of its passage (one message later for a model that reads both ways), and of
a long one only the windows run that hold the passage, up to its last token where the model is causal. Natural and altered
passages are read in the same way, so that what differs is the words.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import ConfigError, LabelError, ShapeError
from mechprobe.falsifiers.config import Reading
from mechprobe.falsifiers.passages import Passage
from mechprobe.models.batches import TokenBatch, length_sorted_batches
from mechprobe.models.rendering import Rendering
from mechprobe.models.subject import Subject
from mechprobe.probes.estimators import Reads
from mechprobe.probes.kinds.layers import Layout
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.matrix import Matrix
from mechprobe.probes.probe import Probe
from mechprobe.saes.encoding import encode_rows
from mechprobe.saes.lens import Sae
from mechprobe.transcripts.transcript import Transcript

_CHUNK = 256
"""Passages whose activations are held at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenScorer:
    """A probe of one indicator, or a feature, with where it reads."""

    name: str
    hook_name: str
    reads: Reads
    probe: Probe
    layout: Layout | None = None
    """For a probe over several hook points: whose columns are whose."""
    feature: int = -1
    """Number of the SAE feature that it is, -1 for a probe."""

    @property
    def hook_names(self) -> tuple[str, ...]:
        """The hook points that it reads."""
        return self.layout.hook_names if self.layout else (self.hook_name,)


def feature_scorer(feature: int, d_sae: int, hook_name: str, *, name: str) -> TokenScorer:
    """A single feature of an SAE as a scorer: its activation is the score.

    Raises:
        ShapeError: the SAE has no such feature.
    """
    if not 0 <= feature < d_sae:
        raise ShapeError(f"feature {feature} of an SAE with features 0 to {d_sae - 1}.")
    weight = np.zeros(d_sae, dtype=np.float32)
    weight[feature] = 1.0
    probe = LinearProbe(kind="feature", weight=weight, bias=0.0)
    return TokenScorer(
        name=name, hook_name=hook_name, reads="feature_acts", probe=probe, feature=feature
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenScores:
    """Scores of the tokens of some passages, a row a token, passage after passage."""

    passage: Int[np.ndarray, "tok"]
    char_start: Int[np.ndarray, "tok"]
    """Where the token's text starts in its passage; below 0 if the token starts before."""
    char_end: Int[np.ndarray, "tok"]
    scores: Float[np.ndarray, "tok scorer"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PassageReader:
    """How passages are read."""

    subject: Subject
    reading: Reading = "last"
    sae: Sae | None = None
    """Encodes activations for the scorers that read features; it must belong to their hook point."""
    batch_tokens: int = 4096

    def score(
        self,
        passages: Sequence[Passage],
        scorers: Sequence[TokenScorer],
        reading: Reading | None = None,
    ) -> Float[np.ndarray, "passage scorer"]:
        """One score a passage and scorer; NaN where no token of the passage is rendered.

        Raises:
            ConfigError: a scorer reads features and there is no SAE.
        """
        found = self.token_scores(passages, scorers)
        scores = np.full((len(passages), len(scorers)), np.nan)
        if not len(found.passage):
            return scores
        starts = np.flatnonzero(np.r_[True, np.diff(found.passage) != 0])
        rows = found.passage[starts]
        match reading or self.reading:
            case "last":
                scores[rows] = found.scores[np.r_[starts[1:], len(found.passage)] - 1]
            case "mean":
                lengths = np.diff(np.r_[starts, len(found.passage)])
                scores[rows] = np.add.reduceat(found.scores, starts) / lengths[:, None]
            case "max":
                scores[rows] = np.maximum.reduceat(found.scores, starts)
        return scores

    def token_scores(
        self, passages: Sequence[Passage], scorers: Sequence[TokenScorer]
    ) -> TokenScores:
        """Scores of every token of the passages."""
        parts = [
            self._chunk(passages[start : start + _CHUNK], start, scorers)
            for start in range(0, len(passages), _CHUNK)
        ]
        nothing = np.zeros(0, dtype=np.int64)
        return TokenScores(
            passage=np.concatenate([nothing, *(part.passage for part in parts)]),
            char_start=np.concatenate([nothing, *(part.char_start for part in parts)]),
            char_end=np.concatenate([nothing, *(part.char_end for part in parts)]),
            scores=np.concatenate(
                [np.zeros((0, len(scorers))), *(part.scores for part in parts)], axis=0
            ),
        )

    def _chunk(
        self, passages: Sequence[Passage], offset: int, scorers: Sequence[TokenScorer]
    ) -> TokenScores:
        renderings: dict[tuple[int, int], Rendering] = {}
        numbers: list[np.ndarray] = []
        bounds: list[np.ndarray] = []
        n_before = 0
        base: dict[tuple[int, int], int] = {}
        for passage in passages:
            key = id(passage.transcript), passage.message
            if key not in renderings:
                renderings[key] = self.subject.render(self._cut(passage))
                base[key] = n_before
                n_before += len(renderings[key].token_ids)
            tokens = _tokens_of(renderings[key], passage)
            numbers.append(tokens + base[key])
            places = [renderings[key].char_start[tokens], renderings[key].char_end[tokens]]
            bounds.append(np.stack(places) - passage.start)
        needed, row = np.unique(np.concatenate(numbers), return_inverse=True)
        acts = self._capture(list(renderings.values()), needed, scorers)
        scores = self._scores(acts, scorers)
        lengths = [len(one) for one in numbers]
        start, end = np.concatenate(bounds, axis=1)
        return TokenScores(
            passage=offset + np.repeat(np.arange(len(passages)), lengths),
            char_start=start,
            char_end=end,
            scores=scores[row.ravel()],
        )

    def _cut(self, passage: Passage) -> Transcript:
        """The conversation up to the passage's message, without labels, which may name later turns."""
        stop = passage.message + (1 if self.subject.is_causal else 2)
        return Transcript(id=passage.transcript.id, messages=passage.transcript.messages[:stop])

    def _capture(
        self,
        renderings: Sequence[Rendering],
        needed: Int[np.ndarray, "row"],
        scorers: Sequence[TokenScorer],
    ) -> Mapping[str, Float[Tensor, "row _"]]:
        """Activations of the needed tokens, numbered through all renderings, by hook point."""
        names = list(dict.fromkeys(name for scorer in scorers for name in scorer.hook_names))
        acts = {name: torch.zeros(len(needed), self.subject.width(name)) for name in names}
        sequences = list(_sequences(renderings, needed, is_causal=self.subject.is_causal))
        lengths = [len(token_ids) for token_ids, _ in sequences]
        switch = self.subject.rotary_switch
        for group in length_sorted_batches(lengths, self.batch_tokens, apart_from=switch):
            batch = TokenBatch.of([sequences[i][0].tolist() for i in group], self.subject.pad_id)
            rows = torch.full(batch.token_ids.shape, -1)
            for case, i in enumerate(group):
                rows[case, : lengths[i]] = torch.from_numpy(sequences[i][1])
            is_needed = rows >= 0
            for name, captured in self.subject.capture(batch, names).items():
                acts[name][rows[is_needed]] = captured.cpu()[is_needed].float()
        return acts

    def _scores(
        self, acts: Mapping[str, Tensor], scorers: Sequence[TokenScorer]
    ) -> Float[np.ndarray, "row scorer"]:
        read: dict[tuple[str, Reads], Matrix] = {}
        n_rows = len(next(iter(acts.values()))) if acts else 0
        scores = np.zeros((n_rows, len(scorers)))
        for at, scorer in enumerate(scorers):
            key = scorer.hook_name, scorer.reads
            if key not in read:
                read[key] = self._read(acts, scorer)
            scores[:, at] = scorer.probe.score(read[key])
        return scores

    def _read(self, acts: Mapping[str, Tensor], scorer: TokenScorer) -> Matrix:
        if scorer.reads == "acts":
            parts: dict[str, Matrix] = {name: acts[name].numpy() for name in scorer.hook_names}
            return scorer.layout.join(parts) if scorer.layout else parts[scorer.hook_name]
        if self.sae is None or scorer.layout is not None:
            raise ConfigError(
                f"{scorer.name!r} reads features at {scorer.hook_name}; give the one SAE of that hook point."
            )
        return encode_rows(self.sae, acts[scorer.hook_name])


def _tokens_of(rendering: Rendering, passage: Passage) -> Int[np.ndarray, "tok"]:
    try:
        return rendering.tokens_of(passage.as_span)
    except LabelError:
        # A template may leave out old reasoning; such a passage has no score, and the count says so.
        return np.zeros(0, dtype=np.int64)


def _sequences(
    renderings: Sequence[Rendering], needed: Int[np.ndarray, "row"], *, is_causal: bool
) -> Iterator[tuple[Int[np.ndarray, "pos"], Int[np.ndarray, "pos"]]]:
    """The windows that hold needed tokens: their token ids, and the row that each position is wanted for, or -1."""
    n_before = 0
    for rendering in renderings:
        n_tokens = len(rendering.token_ids)
        row_of = np.full(n_tokens, -1, dtype=np.int64)
        first, stop = np.searchsorted(needed, [n_before, n_before + n_tokens])
        row_of[needed[first:stop] - n_before] = np.arange(first, stop)
        n_before += n_tokens
        for window in rendering.windows:
            rows = np.where(window.tokens >= 0, row_of[window.tokens], -1)
            wanted = np.flatnonzero(rows >= 0)
            if len(wanted):
                end = int(wanted[-1]) + 1 if is_causal else len(rows)
                yield window.token_ids[:end], rows[:end]
