"""Which text counts as positive, negative or benign, and that a passage is scored where it stands."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from mechprobe.errors import DataError
from mechprobe.falsifiers.passages import Passage, passages_of, split_corpus
from mechprobe.falsifiers.scoring import PassageReader, TokenScorer, feature_scorer
from mechprobe.models.batches import TokenBatch
from mechprobe.models.subject import Subject
from mechprobe.probes.kinds.layers import Layout
from mechprobe.probes.linear import LinearProbe
from mechprobe.transcripts.asked import LABELLED_FOR
from mechprobe.transcripts.transcript import Message, Span, Transcript, number_turns

REASONING = "They must not see the records. The budget is due on Friday. I hide the errors."
OPEN = "Here is the full report for you."


def span(indicator: str, text: str, quote: str, *, message: int, present: bool = True) -> Span:
    start = text.index(quote)
    return Span(
        indicator=indicator,
        message=message,
        section="reasoning",
        start=start,
        end=start + len(quote),
        present=present,
    )


@pytest.fixture
def transcript() -> Transcript:
    """Turn 1 hides the errors and mentions the records; turn 2 is clean."""
    return Transcript(
        id="t",
        messages=number_turns(
            [
                Message(role="user", content="Report on the budget, please."),
                Message(role="assistant", reasoning=REASONING, content="It is fine as it is."),
                Message(role="user", content="And now in full, please."),
                Message(role="assistant", reasoning="I tell them about the errors.", content=OPEN),
            ]
        ),
        spans=(
            span("suppression", REASONING, "I hide the errors", message=1),
            span("concealment", REASONING, "not see the records", message=1, present=False),
        ),
        turn_indicators={1: frozenset({"suppression"}), 2: frozenset()},
    )


def texts(passages: tuple[Passage, ...]) -> list[str]:
    return [passage.text for passage in passages]


def test_spans_and_clean_sentences_are_sorted_by_what_they_are_to_an_indicator(transcript):
    own = passages_of([transcript], "suppression", with_sentences=True)
    assert texts(own.positives) == ["I hide the errors"] and own.look_alikes == ()
    assert texts(own.others) == ["I tell them about the errors.", OPEN]
    other = passages_of([transcript], "concealment", with_sentences=True)
    assert texts(other.look_alikes) == ["not see the records"] and other.positives == ()
    assert "I hide the errors" in texts(other.others)  # its turn has no concealment
    assert texts(other.hosts) == ["I tell them about the errors.", OPEN]  # turn 1 is not benign
    assert passages_of([transcript], "suppression", with_sentences=False).others == ()


def test_a_look_alike_is_no_host_of_its_own_indicator(transcript):
    benign = replace(transcript, spans=transcript.spans[1:], turn_indicators={1: frozenset()})
    hosts = passages_of([benign], "suppression", with_sentences=False).hosts
    assert texts(hosts) == ["not see the records"]
    assert passages_of([benign], "concealment", with_sentences=False).hosts == ()


def test_a_transcript_that_was_not_searched_for_an_indicator_has_no_negative_of_it(transcript):
    only = replace(transcript, meta={LABELLED_FOR: "suppression"})
    found = passages_of([only], "fabrication", with_sentences=True)
    assert found.negatives == () and found.hosts == ()
    assert passages_of([only], "suppression", with_sentences=True).hosts != ()


def test_another_text_in_a_passage_leaves_everything_round_it(transcript):
    passage = passages_of([transcript], "suppression", with_sentences=False).positives[0]
    altered = passage.with_text("We show all of them")
    assert altered.text == "We show all of them"
    whole = altered.transcript.messages[1]
    assert whole.reasoning == REASONING.replace("I hide the errors", "We show all of them")
    assert whole.content == transcript.messages[1].content and altered.cluster == "t"
    assert passage.text == "I hide the errors"


def test_words_are_learned_and_tried_on_different_scenarios(transcript):
    many = [replace(transcript, id=f"t{i}", group=f"g{i // 2}") for i in range(8)]
    corpus = split_corpus(many, seed=0)
    groups = [{t.group for t in side} for side in (corpus.learned, corpus.tried)]
    assert groups[0] | groups[1] == {f"g{i}" for i in range(4)} and not groups[0] & groups[1]
    named = [replace(t, split="test" if i < 3 else "fit") for i, t in enumerate(many)]
    assert [t.id for t in split_corpus(named, seed=0).tried] == ["t0", "t1", "t2"]
    assert not corpus.with_sentences  # a look-alike is labelled
    plain = [replace(t, spans=t.spans[:1]) for t in many]
    assert split_corpus(plain, seed=0).with_sentences
    excluded = [replace(t, excluded=i > 0) for i, t in enumerate(many)]
    with pytest.raises(DataError, match="falsifiers need both"):
        split_corpus(excluded, seed=0)


@dataclass(frozen=True)
class Sum:
    """Adds up the columns."""

    width: int
    kind: str = "sum"

    @property
    def settings(self) -> dict[str, float]:
        return {}

    def score(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(X.sum(axis=1), dtype=np.float32)


@pytest.fixture(scope="module")
def subject(tiny_llama) -> Subject:
    return Subject.load(tiny_llama)


HOOKS = ("blocks.0.hook_out", "blocks.1.hook_out")


def scorer(hook_name: str, d_model: int) -> TokenScorer:
    return TokenScorer(name="sum", hook_name=hook_name, reads="acts", probe=Sum(d_model))


def test_a_passage_has_the_score_of_its_tokens_in_the_whole_conversation(subject, transcript):
    passages = passages_of([transcript], "suppression", with_sentences=True)
    asked = [*passages.positives, *passages.others]
    rendering = subject.render(transcript)
    batch = TokenBatch.of([rendering.token_ids.tolist()], subject.pad_id)
    acts = subject.capture(batch, HOOKS)
    scorers = [scorer(name, subject.d_model) for name in HOOKS]
    found = {
        how: PassageReader(subject=subject, reading=how, batch_tokens=64).score(asked, scorers)
        for how in ("last", "mean", "max")
    }
    for row, passage in enumerate(asked):
        tokens = rendering.tokens_of(passage.as_span)
        assert len(tokens) > 3
        for column, name in enumerate(HOOKS):
            wanted = acts[name][0, tokens].sum(-1).numpy()
            assert found["last"][row, column] == pytest.approx(wanted[-1], abs=1e-4)
            assert found["mean"][row, column] == pytest.approx(wanted.mean(), abs=1e-4)
            assert found["max"][row, column] == pytest.approx(wanted.max(), abs=1e-4)


def test_token_scores_say_which_characters_they_are_of(subject, transcript):
    passages = passages_of([transcript], "suppression", with_sentences=True).others
    reader = PassageReader(subject=subject)
    found = reader.token_scores(passages, [scorer(HOOKS[0], subject.d_model)])
    for number, passage in enumerate(passages):
        here = found.passage == number
        starts, ends = found.char_start[here], found.char_end[here]
        assert starts[0] <= 0 and ends[-1] >= len(passage.text)
        assert (starts[1:] <= ends[:-1]).all() and (ends > starts).all()
    assert reader.score([], [scorer(HOOKS[0], 32)]).shape == (0, 1)


def test_a_probe_over_two_hook_points_reads_both(subject, transcript):
    passages = passages_of([transcript], "suppression", with_sentences=True).others
    layout = Layout(hook_names=HOOKS, widths=(subject.d_model, subject.d_model))
    both = TokenScorer(
        name="both",
        hook_name=layout.hook_name,
        reads="acts",
        probe=Sum(2 * subject.d_model),
        layout=layout,
    )
    scorers = [both, *(scorer(name, subject.d_model) for name in HOOKS)]
    found = PassageReader(subject=subject).score(passages, scorers)
    assert np.allclose(found[:, 0], found[:, 1] + found[:, 2], atol=1e-3)


def test_text_that_the_template_leaves_out_has_no_score(tiny_llama, tmp_path):
    path = tmp_path / "trimming.jinja"
    path.write_text("{% for message in messages %}{{ message.content | trim }}<|end|>{% endfor %}")
    mute = Subject.load(tiny_llama, chat_template=str(path))
    messages = number_turns(
        [Message(role="user", content="go"), Message(role="assistant", content="    all is done")]
    )
    whole = Passage(
        transcript=Transcript(id="t", messages=messages),
        message=1,
        section="answer",
        start=0,
        end=15,
        cluster="t",
    )
    asked = [replace(whole, end=3), whole]
    scores = PassageReader(subject=mute).score(asked, [scorer(HOOKS[0], mute.d_model)])
    assert np.isnan(scores[0, 0]) and np.isfinite(scores[1, 0])


def test_a_feature_is_a_scorer_that_reads_one_column():
    one = feature_scorer(2, 4, "blocks.0.hook_out", name="sae_feature")
    assert one.reads == "feature_acts" and one.feature == 2
    assert isinstance(one.probe, LinearProbe)
    assert one.probe.score(np.eye(4, dtype=np.float32)).tolist() == [0, 0, 1, 0]
