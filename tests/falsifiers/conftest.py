"""The shipped organism, its transcripts, probes of its thoughts, and scorers whose truth is planted."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from mechprobe.causal.directions import span_acts
from mechprobe.causal.places.sites import Site
from mechprobe.falsifiers.scoring import TokenScorer
from mechprobe.models.organism.batches import vocabulary_ids
from mechprobe.models.organism.datasets import DatasetConfig, draw_transcripts
from mechprobe.models.organism.truth import read_truth
from mechprobe.models.organism.vocabulary import INDICATOR_CELLS, OBJECTS
from mechprobe.models.subject import Subject
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.rows import LabelledRows
from mechprobe.probes.solving.logistic import fit_logistic
from mechprobe.study.shipped import find_organism
from mechprobe.transcripts.transcript import Transcript

INDICATOR = "strategic_omission"
SITE, EMBEDDING = "blocks.0.hook_out", "blocks.0.hook_in"


@dataclass(frozen=True, kw_only=True)
class Organism:
    subject: Subject
    transcripts: list[Transcript]


@pytest.fixture(scope="session")
def organism() -> Organism:
    folder = find_organism("organism-natural")
    config = DatasetConfig(n_fit=400, n_select=1, n_test=250, seed=7)
    roles = read_truth(folder).roles
    return Organism(subject=Subject.load(folder), transcripts=list(draw_transcripts(roles, config)))


@pytest.fixture(scope="session")
def thought(organism: Organism) -> TokenScorer:
    """A probe of the thought: spans that hold it against look-alikes and the spans of all other thoughts."""
    fit = [t for t in organism.transcripts if t.split == "fit"]
    spans = span_acts(organism.subject, fit, Site(hook_name=SITE, position="span_last"))
    labels = np.array([name == INDICATOR for name in spans.indicator]) & spans.is_present.numpy()
    labelled = LabelledRows(
        X=spans.acts.numpy(), labels=labels.astype(np.int8)[:, None], indicators=(INDICATOR,)
    )
    probe = fit_logistic(labelled, [10.0], seed=0)[0][0]
    return TokenScorer(name="thought", hook_name=SITE, reads="acts", probe=probe)


@dataclass(frozen=True)
class WordProbe:
    """1 on the tokens of some words and 0 on all others, read off the token embedding."""

    rows: np.ndarray
    """Embeddings of these words."""
    kind: str = "words"
    width: int = 64

    @property
    def settings(self) -> dict[str, float]:
        return {}

    def score(self, X: np.ndarray) -> np.ndarray:
        distance = np.abs(X[:, None, :] - self.rows[None]).max(axis=2)
        return (distance.min(axis=1) < 1e-4).astype(np.float32)


@pytest.fixture(scope="session")
def of_words(organism: Organism) -> Callable[[str, tuple[str, ...]], TokenScorer]:
    """How to make a scorer of single words."""
    embedding = organism.subject.bridge.original_model.get_input_embeddings().weight
    table = embedding.detach().float().numpy()

    def plant(name: str, words: tuple[str, ...]) -> TokenScorer:
        probe = WordProbe(rows=table[[vocabulary_ids()[word] for word in words]])
        return TokenScorer(name=name, hook_name=EMBEDDING, reads="acts", probe=probe)

    return plant


@pytest.fixture(scope="session")
def object_word(of_words) -> TokenScorer:
    """A bag of words: it fires on the indicator's object, whoever says what about it."""
    return of_words("object_word", OBJECTS[INDICATOR_CELLS[INDICATOR][1]])


@pytest.fixture(scope="session")
def frame_word(of_words) -> TokenScorer:
    """A scorer of the attitude: it fires on the endorsing frames, whatever they endorse."""
    return of_words("frame_word", ("plan", "intend", "want"))


@pytest.fixture(scope="session")
def nothing() -> TokenScorer:
    """A scorer that gives every token the same."""
    probe = LinearProbe(kind="nothing", weight=np.zeros(64, np.float32), bias=0.5)
    return TokenScorer(name="nothing", hook_name=SITE, reads="acts", probe=probe)


@pytest.fixture(scope="session")
def noise() -> TokenScorer:
    """A scorer whose numbers are a hash of the activations."""

    @dataclass(frozen=True)
    class Noise:
        kind: str = "noise"
        width: int = 64

        @property
        def settings(self) -> dict[str, float]:
            return {}

        def score(self, X: np.ndarray) -> np.ndarray:
            return np.modf(np.abs(X.sum(axis=1)) * 1e4)[0].astype(np.float32)

    return TokenScorer(name="noise", hook_name=SITE, reads="acts", probe=Noise())
