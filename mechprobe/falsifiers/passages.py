"""Stretches of text that a scorer is asked about: positives, look-alikes, other text, and benign text to alter."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mechprobe.errors import DataError
from mechprobe.transcripts.asked import was_asked
from mechprobe.transcripts.sentences import split_sentences
from mechprobe.transcripts.splits import group_names, grouped_folds
from mechprobe.transcripts.transcript import Message, Section, Span, Transcript

_MIN_WORDS = 5
_ALTERABLE: tuple[Section, ...] = ("reasoning", "answer")
"""Tool calls are code; a word put into them makes other code."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Passage:
    """Characters `start` to `end` (excluded) of a section of a message."""

    transcript: Transcript
    message: int
    section: Section
    start: int
    end: int
    cluster: str
    """Id of the transcript with which it is resampled."""

    @property
    def text(self) -> str:
        """The passage itself."""
        return self.transcript.messages[self.message].text(self.section)[self.start : self.end]

    @property
    def turn(self) -> int:
        """The turn that it stands in."""
        return self.transcript.messages[self.message].turn

    @property
    def as_span(self) -> Span:
        """Its place as a span, for a rendering to find its tokens."""
        return Span(
            indicator="passage",
            message=self.message,
            section=self.section,
            start=self.start,
            end=self.end,
        )

    def with_text(self, text: str) -> "Passage":
        """The same place of the same conversation, saying something else."""
        old = self.transcript.messages[self.message]
        whole = old.text(self.section)
        new = whole[: self.start] + text + whole[self.end :]
        messages = list(self.transcript.messages)
        messages[self.message] = _with_section(old, self.section, new)
        altered = Transcript(id=self.transcript.id, messages=tuple(messages))
        return replace(self, transcript=altered, end=self.start + len(text))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Passages:
    """What an indicator's falsifiers work on."""

    positives: tuple[Passage, ...]
    look_alikes: tuple[Passage, ...]
    """Spans that look like the indicator and do not hold it."""
    others: tuple[Passage, ...]
    """Text of turns without the indicator."""
    hosts: tuple[Passage, ...]
    """Text of turns without any indicator, which is altered."""

    @property
    def negatives(self) -> tuple[Passage, ...]:
        """Everything that does not hold the indicator."""
        return (*self.look_alikes, *self.others)

    def draw(self, n: int, rng: np.random.Generator) -> "Passages":
        """At most `n` of each kind."""
        return Passages(
            positives=draw(self.positives, n, rng),
            look_alikes=draw(self.look_alikes, n, rng),
            others=draw(self.others, n, rng),
            hosts=draw(self.hosts, n, rng),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Corpus:
    """Transcripts from which words are learned, and others on which they are tried."""

    learned: tuple[Transcript, ...]
    tried: tuple[Transcript, ...]
    with_sentences: bool
    """Whether sentences without a span serve as negatives beside the spans."""


def split_corpus(transcripts: Sequence[Transcript], seed: int) -> Corpus:
    """The split "test" is tried and the rest learned from; without that split, half of the scenarios each.

    Sentences serve as negatives where no span is labelled as a look-alike.

    Raises:
        DataError: no transcript is labelled, or all stand on one side.
    """
    usable = [t for t in transcripts if t.is_labelled and not t.excluded]
    is_tried = np.array([t.split == "test" for t in usable], dtype=bool)
    if not is_tried.any() and len(set(group_names(usable))) > 1:
        is_tried = grouped_folds(group_names(usable), 2, seed) == 0
    learned = tuple(t for t, tried in zip(usable, is_tried, strict=True) if not tried)
    tried = tuple(t for t, tried in zip(usable, is_tried, strict=True) if tried)
    if not learned or not tried:
        raise DataError(
            f"{len(learned)} labelled transcripts to learn words from and {len(tried)} to try them on; "
            "falsifiers need both: give more scenarios, or splits named fit and test."
        )
    has_look_alikes = any(not span.present for t in usable for span in t.spans)
    return Corpus(learned=learned, tried=tried, with_sentences=not has_look_alikes)


def passages_of(
    transcripts: Sequence[Transcript], indicator: str, *, with_sentences: bool
) -> Passages:
    """All passages that these transcripts offer for an indicator."""
    positives: list[Passage] = []
    look_alikes: list[Passage] = []
    others: list[Passage] = []
    hosts: list[Passage] = []
    for transcript in transcripts:
        for span in transcript.spans:
            if span.section not in _ALTERABLE:
                continue
            passage = passage_of(transcript, span)
            if span.indicator == indicator:
                (positives if span.present else look_alikes).append(passage)
            elif _is_clean(passage, indicator):
                others.append(passage)
            if not span.present and _is_benign(passage):
                hosts.append(passage)
        if with_sentences:
            sentences = [one for one in _sentences(transcript) if _is_clean(one, indicator)]
            others += sentences
            hosts += [one for one in sentences if _is_benign(one)]
    return Passages(
        positives=tuple(positives),
        look_alikes=tuple(look_alikes),
        others=tuple(others),
        hosts=tuple(
            one for one in hosts if _is_clean(one, indicator) and not _is_own(one, indicator)
        ),
    )


def passage_of(transcript: Transcript, span: Span) -> Passage:
    """The passage that a span marks."""
    return Passage(
        transcript=transcript,
        message=span.message,
        section=span.section,
        start=span.start,
        end=span.end,
        cluster=transcript.id,
    )


def draw(passages: Sequence[Passage], n: int, rng: np.random.Generator) -> tuple[Passage, ...]:
    """At most `n` of them, in their order."""
    if len(passages) <= n:
        return tuple(passages)
    chosen = np.sort(rng.choice(len(passages), n, replace=False))
    return tuple(passages[i] for i in chosen)


def _with_section(message: Message, section: Section, text: str) -> Message:
    if section == "reasoning":
        return replace(message, reasoning=text)
    return replace(message, content=text)


def _is_clean(passage: Passage, indicator: str) -> bool:
    """Whether the turn was searched for the indicator, and neither has it nor holds a quotation of it."""
    here = passage.transcript
    if not was_asked(here, [indicator])[0]:
        return False
    quoted = any(
        span.indicator == indicator and here.messages[span.message].turn == passage.turn
        for span in here.present_spans
    )
    return not quoted and indicator not in here.indicators(passage.turn)


def _is_benign(passage: Passage) -> bool:
    here = passage.transcript
    quoted = any(here.messages[s.message].turn == passage.turn for s in here.present_spans)
    bad = passage.turn in (here.misaligned_turns or ())
    return not quoted and not bad and not here.indicators(passage.turn)


def _is_own(passage: Passage, indicator: str) -> bool:
    """Whether the passage is a look-alike of the indicator itself."""
    return any(
        span.indicator == indicator
        and (span.message, span.section) == (passage.message, passage.section)
        and span.start < passage.end
        and passage.start < span.end
        for span in passage.transcript.spans
    )


def _sentences(transcript: Transcript) -> Iterator[Passage]:
    for index, message in enumerate(transcript.messages):
        if message.role != "assistant":
            continue
        for section in _ALTERABLE:
            for start, end in split_sentences(message.text(section), min_words=_MIN_WORDS):
                yield Passage(
                    transcript=transcript,
                    message=index,
                    section=section,
                    start=start,
                    end=end,
                    cluster=transcript.id,
                )
