"""A subject computes what the plain model computes, and what is edited is edited: nowhere else, and never silently."""

from pathlib import Path

import pytest
import torch

from mechprobe.errors import ConfigError, HookError, ModelError, ShapeError
from mechprobe.models.batches import TokenBatch, length_sorted_batches
from mechprobe.models.hooks import Edit, EditContext
from mechprobe.models.subject import Subject
from tests.models.tiny import save_tiny, tiny_model

CAUSAL = ("llama", "qwen3", "gpt2", "gemma3")
SEQUENCES = [[5, 9, 30, 31, 7, 12], [8, 40], [11, 200, 45, 46]]
LAST = "blocks.1.hook_out"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_tiny(kind, tmp_path_factory.mktemp(kind)) for kind in (*CAUSAL, "bert")}


@pytest.fixture(scope="module")
def subjects(folders: dict[str, Path]) -> dict[str, Subject]:
    return {kind: Subject.load(folder) for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def subject(subjects: dict[str, Subject]) -> Subject:
    return subjects["llama"]


def batch_of(sequences: list[list[int]], side: str = "right") -> TokenBatch:
    return TokenBatch.of(sequences, 0, side)


def adding(hook_name: str, vector: torch.Tensor) -> Edit:
    return Edit(hook_name=hook_name, apply=lambda acts, _where: acts + vector)


@pytest.mark.parametrize("kind", CAUSAL)
def test_bridge_agrees_with_the_plain_model(subjects: dict[str, Subject], kind: str):
    subject = subjects[kind]
    assert subject.parity.max_logit_diff < 1e-5
    assert subject.parity.max_resid_diff < 1e-5
    plain = tiny_model(kind)
    with torch.no_grad():
        wanted = plain(torch.tensor(SEQUENCES[:1]), output_hidden_states=True)
    batch = batch_of(SEQUENCES[:1])
    assert torch.allclose(subject.run(batch), wanted.logits, atol=1e-5)
    acts = subject.capture(batch, ["blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"])
    for found in acts.values():
        assert torch.allclose(found, wanted.hidden_states[1], atol=1e-5)


def test_bert_agrees_with_the_plain_model_and_does_not_generate(subjects: dict[str, Subject]):
    subject = subjects["bert"]
    assert not subject.is_causal
    assert subject.parity.max_resid_diff < 1e-5
    plain = tiny_model("bert")
    with torch.no_grad():
        wanted = plain(torch.tensor(SEQUENCES[:1]), output_hidden_states=True).hidden_states
    acts = subject.capture(batch_of(SEQUENCES), ["blocks.0.hook_out", LAST])
    assert torch.allclose(acts["blocks.0.hook_out"][0], wanted[1][0], atol=1e-5)
    assert torch.allclose(acts[LAST][0], wanted[2][0], atol=1e-5)
    with pytest.raises(ModelError, match="encoder"):
        subject.generate(SEQUENCES, max_new_tokens=1)
    with pytest.raises(ModelError, match="encoder"):
        subject.run(batch_of(SEQUENCES))


@pytest.mark.parametrize("kind", (*CAUSAL, "bert"))
def test_padding_does_not_change_activations(subjects: dict[str, Subject], kind: str):
    names = ["blocks.0.attn.hook_out", "blocks.0.hook_out", LAST]
    padded = subjects[kind].capture(batch_of(SEQUENCES), names)
    for row, sequence in enumerate(SEQUENCES):
        alone = subjects[kind].capture(batch_of([sequence]), names)
        for name in names:
            assert torch.allclose(padded[name][row, : len(sequence)], alone[name][0], atol=1e-5)


@pytest.mark.parametrize("kind", CAUSAL)
def test_left_padding_keeps_logits(subjects: dict[str, Subject], kind: str):
    right = subjects[kind].run(
        batch_of(SEQUENCES), positions=torch.tensor([len(s) - 1 for s in SEQUENCES])
    )
    left = subjects[kind].run(batch_of(SEQUENCES, "left"))[:, -1]
    assert torch.allclose(left, right, atol=1e-5)


def test_logits_at_positions_are_those_of_the_whole_run(subject: Subject):
    positions = torch.tensor([4, 1, 1])
    everywhere = subject.run(batch_of(SEQUENCES))
    there = subject.run(batch_of(SEQUENCES), positions=positions)
    # A product with fewer rows may round its last bit otherwise.
    assert torch.allclose(there, everywhere[torch.arange(3), positions], rtol=1e-5, atol=1e-6)
    shifted = subject.run(
        batch_of(SEQUENCES),
        positions=positions,
        edits=[Edit(hook_name="unembed.hook_out", apply=lambda acts, _where: acts + 1)],
    )
    assert torch.allclose(shifted, there + 1, atol=1e-5)


def test_hook_names_are_resolved_and_misspelt_ones_refused(subject: Subject):
    assert subject.resolve("blocks.1.hook_resid_post") == LAST
    assert subject.resolve(LAST) == LAST
    assert LAST in subject.hook_names
    assert (subject.width(LAST), subject.width("blocks.0.mlp.hook_post")) == (32, 48)
    with pytest.raises(HookError, match=r"blocks\.1\.hook_resid_post"):
        subject.resolve("blocks.1.hook_residpost")
    with pytest.raises(HookError, match=r"no hook point 'blocks\.2\.hook_out'"):
        subject.capture(batch_of(SEQUENCES), ["blocks.2.hook_out"])
    with pytest.raises(HookError, match="no hook point"):
        subject.run(batch_of(SEQUENCES), edits=[adding("blocks.0.resid", torch.ones(32))])
    for name in ("blocks.0.attn.hook_pattern", "blocks.0.attn.hook_result"):
        with pytest.raises(HookError, match="no row of numbers for each token"):
            subject.resolve(name)


def test_capture_stops_after_the_last_hook_point(subject: Subject):
    reached: list[str] = []

    def notice(name: str) -> Edit:
        def apply(acts: torch.Tensor, _where: EditContext) -> torch.Tensor:
            reached.append(name)
            return acts + 0

        return Edit(hook_name=name, apply=apply)

    edits = [notice("blocks.0.hook_out"), notice(LAST)]
    with pytest.raises(HookError, match="never fired"):
        subject.capture(batch_of(SEQUENCES), ["blocks.0.hook_out"], edits=edits)
    assert reached == ["blocks.0.hook_out"]
    with pytest.raises(HookError, match="at least one"):
        subject.capture(batch_of(SEQUENCES), [])


def test_capture_is_the_same_under_alias_and_canonical_name(subject: Subject):
    acts = subject.capture(batch_of(SEQUENCES), ["blocks.1.hook_resid_post", LAST])
    assert torch.equal(acts["blocks.1.hook_resid_post"], acts[LAST])


@pytest.mark.parametrize("kind", CAUSAL)
def test_an_edit_of_the_last_block_is_read_by_the_unembedding(
    subjects: dict[str, Subject], kind: str
):
    """Replacing the stream at the last block by another sequence's gives that sequence's logits."""
    subject = subjects[kind]
    one, other = batch_of([[5, 9, 30]]), batch_of([[7, 12, 31]])
    wanted = subject.capture(other, [LAST])[LAST]
    patch = Edit(hook_name="blocks.1.hook_resid_post", apply=lambda _acts, _where: wanted)
    assert torch.allclose(subject.run(one, edits=[patch]), subject.run(other), atol=1e-5)


def test_edits_compose_in_order_and_are_captured(subject: Subject):
    double = Edit(hook_name=LAST, apply=lambda acts, _where: acts * 2)
    one = adding(LAST, torch.ones(32))
    batch = batch_of(SEQUENCES)
    plain = subject.capture(batch, [LAST])[LAST]
    assert torch.equal(subject.capture(batch, [LAST], edits=[double, one])[LAST], plain * 2 + 1)
    assert torch.equal(subject.capture(batch, [LAST], edits=[one, double])[LAST], (plain + 1) * 2)


def test_the_model_is_itself_again_after_an_error(subject: Subject):
    batch = batch_of(SEQUENCES)
    before = subject.run(batch)

    def fail(_acts: torch.Tensor, _where: EditContext) -> torch.Tensor:
        raise RuntimeError("planted")

    edits = [adding("blocks.0.hook_out", torch.ones(32)), Edit(hook_name=LAST, apply=fail)]
    with pytest.raises(RuntimeError, match="planted"):
        subject.run(batch, edits=edits)
    assert torch.equal(subject.run(batch), before)
    with pytest.raises(ShapeError, match="keeps the shape"):
        subject.run(batch, edits=[Edit(hook_name=LAST, apply=lambda acts, _where: acts[:, :1])])
    assert torch.equal(subject.run(batch), before)


def test_an_edit_that_never_fires_is_an_error(subject: Subject):
    edit = Edit(hook_name=LAST, apply=lambda acts, _where: acts)
    with pytest.raises(HookError, match="never fired"):
        subject.run(batch_of(SEQUENCES), edits=[edit])
    with pytest.raises(HookError, match="never fired"), subject.editing([edit]):
        pass


def test_edits_stay_active_inside_editing_and_count(subject: Subject):
    batch = batch_of(SEQUENCES)
    edit = adding("blocks.0.hook_out", torch.ones(32))
    with subject.editing([edit]) as counts:
        first = subject.run(batch)
        subject.capture(batch, [LAST])
    assert counts == [2]
    assert torch.equal(first, subject.run(batch, edits=[edit]))
    assert not torch.equal(first, subject.run(batch))


@pytest.mark.parametrize("kind", CAUSAL)
def test_generated_text_does_not_depend_on_the_batch(subjects: dict[str, Subject], kind: str):
    subject = subjects[kind]
    for temperature in (0.0, 1.0):
        together = subject.generate(
            SEQUENCES, max_new_tokens=8, temperature=temperature, seed=[3, 4, 5]
        )
        alone = [
            subject.generate([s], max_new_tokens=8, temperature=temperature, seed=[seed])[0]
            for s, seed in zip(SEQUENCES, (3, 4, 5), strict=True)
        ]
        assert together == alone


@pytest.mark.parametrize("kind", CAUSAL)
def test_greedy_text_is_what_the_plain_model_would_write(subjects: dict[str, Subject], kind: str):
    plain = tiny_model(kind)
    for prompt, written in zip(
        SEQUENCES,
        subjects[kind].generate(SEQUENCES, max_new_tokens=6, temperature=0.0),
        strict=True,
    ):
        ids = list(prompt)
        for _ in range(6):
            with torch.no_grad():
                ids.append(int(plain(torch.tensor([ids])).logits[0, -1].argmax()))
        assert written == ids[len(prompt) :]


def test_generation_stops_at_stop_tokens_and_repeats_with_its_seed(subject: Subject):
    free = subject.generate(SEQUENCES, max_new_tokens=10, seed=1)
    assert free == subject.generate(SEQUENCES, max_new_tokens=10, seed=1)
    assert free != subject.generate(SEQUENCES, max_new_tokens=10, seed=2)
    stop = free[0][3]
    stopped = subject.generate(SEQUENCES, max_new_tokens=10, seed=1, stop_token_ids=[stop])
    assert stopped[0] == free[0][: free[0].index(stop) + 1]
    with pytest.raises(ShapeError, match="2 seeds for 3 prompts"):
        subject.generate(SEQUENCES, max_new_tokens=1, seed=[1, 2])
    with pytest.raises(ConfigError, match="temperature is -1"):
        subject.generate(SEQUENCES, max_new_tokens=1, temperature=-1.0)


def test_sampling_follows_the_probabilities(subject: Subject):
    prompt = SEQUENCES[0]
    logits = subject.run(batch_of([prompt]), positions=torch.tensor([len(prompt) - 1]))[0]
    drawn = subject.generate([prompt] * 400, max_new_tokens=1, temperature=0.5, seed=0)
    probabilities = torch.softmax(logits / 0.5, -1)
    best = int(probabilities.argmax())
    share = sum(tokens == [best] for tokens in drawn) / 400
    expected = float(probabilities[best])
    assert abs(share - expected) < 4 * (expected * (1 - expected) / 400) ** 0.5 + 1e-3


@pytest.mark.parametrize("kind", CAUSAL)
def test_edits_fire_at_every_step_on_the_newest_token(subjects: dict[str, Subject], kind: str):
    subject = subjects[kind]
    seen: list[torch.Tensor] = []

    def watch(acts: torch.Tensor, where: EditContext) -> torch.Tensor:
        assert acts.shape[:2] == where.positions.shape
        seen.append(where.positions)
        return acts + 0

    subject.generate(
        SEQUENCES, max_new_tokens=4, edits=[Edit(hook_name="blocks.0.hook_out", apply=watch)]
    )
    assert len(seen) == 4
    assert seen[0].tolist() == [[0, 1, 2, 3, 4, 5], [-1, -1, -1, -1, 0, 1], [-1, -1, 0, 1, 2, 3]]
    assert [step[:, 0].tolist() for step in seen[1:]] == [[6, 2, 4], [7, 3, 5], [8, 4, 6]]


@pytest.mark.parametrize("kind", CAUSAL)
def test_an_edit_at_positions_means_the_same_with_padding_and_cache(
    subjects: dict[str, Subject], kind: str
):
    """Steering the third new token while generating is steering it in the finished text."""
    subject = subjects[kind]
    vector = torch.linspace(-3, 3, 32)

    def steer_at(tokens: torch.Tensor) -> Edit:
        def apply(acts: torch.Tensor, where: EditContext) -> torch.Tensor:
            is_chosen = where.positions == tokens[:, None]
            return torch.where(is_chosen[..., None], acts + vector, acts)

        return Edit(hook_name="blocks.0.hook_out", apply=apply)

    at = torch.tensor([len(s) + 1 for s in SEQUENCES])
    written = subject.generate(SEQUENCES, max_new_tokens=5, temperature=0.0, edits=[steer_at(at)])
    for row, (prompt, new) in enumerate(zip(SEQUENCES, written, strict=True)):
        whole = batch_of([prompt + new[:-1]])
        logits = subject.run(whole, edits=[steer_at(at[row : row + 1])])[0]
        assert logits[len(prompt) - 1 :].argmax(-1).tolist() == new


def test_sequences_longer_than_the_model_reads_are_refused(subjects: dict[str, Subject]):
    with pytest.raises(ShapeError, match="600 tokens is longer than the 512"):
        subjects["llama"].run(batch_of([[5] * 600]))
    with pytest.raises(ShapeError, match="set window"):
        subjects["bert"].capture(batch_of([[5] * 65]), [LAST])


def test_what_cannot_be_loaded_is_explained(folders: dict[str, Path], tmp_path: Path):
    with pytest.raises(ModelError, match="no model folder"):
        Subject.load(tmp_path / "missing")
    with pytest.raises(ModelError, match=r"no config\.json"):
        Subject.load(tmp_path)
    with pytest.raises(ModelError, match="cannot be loaded"):
        Subject.load("nobody/no-such-model")
    with pytest.raises(ConfigError, match="float8"):
        Subject.load(folders["llama"], dtype="float8")
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((folders["llama"] / name).read_bytes())
    with pytest.raises(ModelError, match="has no tokenizer"):
        Subject.load(bare)
    (bare / "config.json").write_text("{")
    (bare / "tokenizer.json").write_bytes((folders["llama"] / "tokenizer.json").read_bytes())
    with pytest.raises(ModelError, match="cannot be loaded"):
        Subject.load(bare)


def test_a_bridge_that_computes_something_else_is_refused(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    from mechprobe.models import subject as module

    real = module.load_model

    def broken(*args, **kwargs):
        loaded = real(*args, **kwargs)
        with torch.no_grad():
            loaded.bridge.original_model.lm_head.weight.mul_(1.01)
        return loaded

    monkeypatch.setattr(module, "load_model", broken)
    with pytest.raises(ModelError, match="differs from the plain model"):
        Subject.load(folders["llama"])


def test_half_precision_is_within_its_tolerance(folders: dict[str, Path]):
    subject = Subject.load(folders["llama"], dtype="bfloat16")
    acts = subject.capture(batch_of(SEQUENCES), [LAST])[LAST]
    assert acts.dtype == torch.bfloat16
    steered = subject.run(batch_of(SEQUENCES), edits=[adding(LAST, torch.ones(32))])
    assert steered.dtype == torch.bfloat16


def test_the_digest_is_that_of_the_folder(folders: dict[str, Path], subjects: dict[str, Subject]):
    again = Subject.load(folders["llama"])
    assert again.model_digest == subjects["llama"].model_digest
    assert again.model_digest != subjects["qwen3"].model_digest


def test_batches_are_sorted_by_length_and_bounded():
    lengths = [3, 9, 4, 1, 9, 20]
    batches = [list(rows) for rows in length_sorted_batches(lengths, 18)]
    assert sorted(row for rows in batches for row in rows) == list(range(6))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * max(lengths[row] for row in rows) <= 18
    assert len(batches) == 3
    with pytest.raises(ShapeError, match="at least one"):
        TokenBatch.of([[1], []], 0)
