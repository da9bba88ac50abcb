"""What is captured is what the model computes, for every family: padded, windowed, with experts, through a store."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mechprobe.models.batches import TokenBatch
from mechprobe.models.subject import Subject
from tests.models.architectures import (
    FIRST,
    HOOK_NAMES,
    LAST,
    MIDDLE,
    TALKS,
    Studied,
    bfloat16_errors,
    edited_deviation,
    padded_deviation,
    reference_rows,
    stored_deviation,
    stored_rows,
    study,
)
from tests.models.families import FAMILIES, N_LAYERS, WINDOW, save

TOLERANCE = 1e-5
"""Activations are of size 2 to 9 here."""
WITH_EXPERTS = [name for name, family in FAMILIES.items() if family.has_experts]
WITH_WINDOW = [name for name, family in FAMILIES.items() if family.has_window]
CAUSAL = [name for name, family in FAMILIES.items() if family.is_causal]
ROUTERS = ("gate.weight", "router.weight")


@pytest.fixture(scope="module", params=FAMILIES)
def studied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Studied:
    return study(request.param, tmp_path_factory.mktemp("family"))


def test_the_reference_is_the_hidden_states_and_the_last_block_before_the_final_norm(
    studied: Studied,
):
    with torch.no_grad():
        out = studied.plain(torch.tensor(studied.sequences[:1]), output_hidden_states=True)
    states = [state[0] for state in out.hidden_states]
    assert len(states) == N_LAYERS + 1
    assert torch.equal(states[0], studied.wanted[FIRST][0])
    assert torch.equal(states[2], studied.wanted[MIDDLE][0])
    # BERT has no norm after its last block.
    assert torch.equal(states[3], studied.wanted[LAST][0]) == (not studied.family.is_causal)


@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_stored_rows_are_those_of_the_plain_model(
    studied: Studied, batch_tokens: int, tmp_path: Path
):
    assert len({len(sequence) for sequence in studied.sequences}) == len(TALKS)
    found = stored_rows(studied.subject, tmp_path, batch_tokens=batch_tokens)
    assert stored_deviation(found, studied.wanted) < TOLERANCE


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_no_row(studied: Studied, side):
    assert padded_deviation(studied, side) < TOLERANCE


def test_padding_that_is_not_masked_would_be_seen(studied: Studied):
    """The control of the test above: the same tokens after unmasked padding give other rows."""
    sequence = studied.sequences[0]
    (row,) = reference_rows(studied.plain, studied.family, [[0] * 5 + sequence])[LAST]
    assert (row[5:] - studied.wanted[LAST][0]).abs().max() > 1e-2


def test_rows_in_bfloat16_are_within_its_rounding(studied: Studied, tmp_path: Path):
    """A router may choose otherwise in bfloat16, so that single rows of models with experts are far off."""
    errors = bfloat16_errors(studied, tmp_path)
    assert errors[int(0.9 * len(errors))] < 0.02
    if not studied.family.has_experts:
        assert errors[-1] < 0.05


@pytest.mark.parametrize("studied", WITH_EXPERTS, indirect=True)
def test_padding_changes_no_routers_choice(studied: Studied):
    """Another choice of expert moves a row by far more than the tolerance, and so would a token that is crowded out."""
    short = studied.sequences[0]
    crowd = [short, *([studied.sequences[2]] * 6)]
    batch = TokenBatch.of(crowd, studied.subject.pad_id, "left")
    found = studied.subject.capture(batch, [LAST])[LAST][0][batch.mask[0]]
    assert (found - studied.wanted[LAST][0]).abs().max() < TOLERANCE
    with torch.no_grad():
        weights = studied.plain.get_submodule(studied.family.blocks)[1].mlp
        parameter = next(p for n, p in weights.named_parameters() if n in ROUTERS)
        kept = parameter.clone()
        parameter.neg_()
        (moved,) = reference_rows(studied.plain, studied.family, [short])[LAST]
        parameter.copy_(kept)
    assert (moved - studied.wanted[LAST][0]).abs().max() > 1e-2


@pytest.mark.parametrize("studied", WITH_WINDOW, indirect=True)
def test_contexts_are_longer_than_the_sliding_window(studied: Studied):
    """Without its window the model gives other rows from the first token that lies beyond it."""
    sequence = studied.sequences[1]
    assert len(sequence) > 5 * WINDOW
    wide = studied.family.build()
    config = wide.config
    config.sliding_window = 500
    wide = type(wide)(config).eval()
    wide.load_state_dict(studied.plain.state_dict())
    (row,) = reference_rows(wide, studied.family, [sequence])[MIDDLE]
    gaps = (row - studied.wanted[MIDDLE][1]).abs().amax(1)
    assert gaps[:WINDOW].max() < TOLERANCE
    assert gaps[WINDOW + 1 :].min() > 1e-4


def test_only_an_encoder_reads_what_comes_after(studied: Studied):
    sequence = studied.sequences[1]
    other = [*sequence[:-1], sequence[-1] + 1]
    batch = TokenBatch.of([sequence, other], studied.subject.pad_id)
    one, two = studied.subject.capture(batch, HOOK_NAMES)[LAST]
    assert studied.subject.is_causal == studied.family.is_causal
    assert torch.equal(one[:-1], two[:-1]) == studied.subject.is_causal
    assert not torch.equal(one[-1], two[-1])


@pytest.mark.parametrize("studied", CAUSAL, indirect=True)
def test_the_stream_is_what_its_parts_add_up_to(studied: Studied):
    """By the names that TransformerLens gives the parts; norms that stand after a part belong to it.

    BERT's stream goes through a norm after each part, so it is none of these sums.
    """
    names = [f"blocks.1.hook_{part}" for part in ("resid_pre", "attn_out", "mlp_out", "resid_post")]
    batch = TokenBatch.of(studied.sequences[:2], studied.subject.pad_id)
    pre, attention, mlp, post = studied.subject.capture(batch, names).values()
    assert (pre + attention + mlp - post).abs().max() < TOLERANCE
    assert attention.abs().max() > 1e-2
    assert mlp.abs().max() > 1e-2


@pytest.mark.parametrize("studied", CAUSAL, indirect=True)
def test_an_edit_of_a_padded_batch_moves_the_logits_as_a_plain_hook_does(studied: Studied):
    assert edited_deviation(studied) < TOLERANCE


def test_bridges_that_fail_without_a_cache_are_mended(tmp_path: Path):
    """Qwen3-Next's linear attention in any dtype, OLMo 2's rotary embedding in bfloat16 (bridge_repairs.py)."""
    for name in ("Qwen3-Next", "OLMo 2"):
        folder = save(FAMILIES[name], tmp_path / name)
        subject = Subject.load(folder, dtype="bfloat16")
        logits = subject.run(TokenBatch.of([[5, 9, 30, 31], [8, 40]], subject.pad_id))
        assert logits.isfinite().all()
        assert logits.dtype == torch.bfloat16


def test_sequences_on_both_sides_of_a_rotary_switch_do_not_share_a_batch(tmp_path: Path):
    # Phi-3's "longrope": other frequencies for a batch in which any sequence is longer than this.
    switch = 40
    rotary = {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "short_factor": [1.0] * 8,
        "long_factor": [4.0] * 8,
    }
    phi = FAMILIES["Phi-3"]
    sizes = {"rope_parameters": rotary, "original_max_position_embeddings": switch}
    family = replace(phi, sizes=phi.sizes | sizes)
    subject = Subject.load(save(family, tmp_path / "model"))
    sequences = [w.token_ids.tolist() for talk in TALKS for w in subject.render(talk).windows]
    lengths = [len(sequence) for sequence in sequences]
    assert min(lengths) <= switch < max(lengths)
    wanted = reference_rows(family.build(), family, sequences)
    found = stored_rows(subject, tmp_path / "store")
    assert stored_deviation(found, wanted) < TOLERANCE
    together = subject.capture(TokenBatch.of(sequences, subject.pad_id), [MIDDLE])[MIDDLE]
    shortest = lengths.index(min(lengths))
    moved = together[shortest, : lengths[shortest]] - wanted[MIDDLE][shortest]
    assert moved.abs().max() > 100 * TOLERANCE
