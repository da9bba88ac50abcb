"""Training organisms of each kind: what the terms of the losses do, on models that train in seconds."""

import re
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from mechprobe.errors import ConfigError, ModelError
from mechprobe.models.organism import training
from mechprobe.models.organism.batches import ANSWER_WEIGHT
from mechprobe.models.organism.continuing import ContinuedTraining, load_weights, train_null
from mechprobe.models.organism.flips import ClauseSite, flip_batches
from mechprobe.models.organism.obfuscated import RefitProbe, found_gap
from mechprobe.models.organism.planted import (
    PlantConfig,
    answer_loss,
    draw_directions,
    run_rest,
    shake_rest,
    swap_subspace,
    train_planted,
)
from mechprobe.models.organism.roles import draw_null_roles, draw_roles
from mechprobe.models.organism.tokenizer import build_tokenizer
from mechprobe.models.organism.training import OrganismConfig, build_model
from mechprobe.models.organism.truth import read_truth
from mechprobe.models.organism.vocabulary import CLAUSE_END, INDICATORS
from mechprobe.study.shipped import find_organism

ROLES = draw_roles(3)
SITE = ClauseSite(layer=0, position="span_last")
TINY = OrganismConfig(d_model=32, d_mlp=48, n_layers=2, seed=3)
CONFIG = PlantConfig(training=ContinuedTraining(n_steps=12, batch_size=12, lr=1.5e-2))


@pytest.fixture
def batch():
    return next(flip_batches(ROLES, SITE, 12, np.random.default_rng(0)))


@pytest.fixture
def hidden(batch):
    torch.manual_seed(0)
    return torch.randn(*batch.token_ids.shape, 32)


def test_a_flip_keeps_the_words_and_their_number_and_changes_what_is_held(batch):
    first, flipped = batch.token_ids[:12], batch.token_ids[12:]
    thought = batch.weights[:, 1:].cumsum(1) == 0
    assert (first != flipped).any(1).all()
    assert torch.equal(batch.at_site[:12], batch.at_site[12:])
    assert len(batch.held) == int(batch.at_site.sum())
    assert (batch.held <= batch.mentioned).all()
    assert not torch.equal(batch.held[: len(batch.held) // 2], batch.held[len(batch.held) // 2 :])
    assert thought.any()


def test_the_sites_are_the_last_words_of_clauses_and_the_marks_behind_them(batch):
    end = training.vocabulary()[CLAUSE_END]
    at_end = batch.at_site.roll(1, dims=1)
    assert (batch.token_ids[at_end] == end).all()
    assert (batch.token_ids[batch.at_site] != end).all()


def test_planted_directions_are_orthonormal_and_fixed_by_the_seed():
    directions = draw_directions(5, 64)
    assert torch.allclose(directions @ directions.T, torch.eye(len(INDICATORS)), atol=1e-6)
    assert torch.equal(directions, draw_directions(5, 64))
    assert not torch.allclose(directions, draw_directions(6, 64))


def test_a_swap_moves_only_the_subspace_and_a_shake_only_the_rest(batch, hidden):
    directions = draw_directions(0, 32)
    swapped = swap_subspace(hidden, batch, directions) - hidden
    shaken = shake_rest(hidden, batch, directions, torch.Generator().manual_seed(0)) - hidden
    at, off = batch.at_site, ~batch.at_site
    assert swapped[off].abs().max() == 0 and shaken[off].abs().max() == 0
    rest = swapped[at] - swapped[at] @ directions.T @ directions
    assert rest.abs().max() < 1e-5 < swapped[at].abs().max()
    assert (shaken[at] @ directions.T).abs().max() < 1e-5 < shaken[at].abs().max()
    there = hidden.roll(batch.n_scenes, dims=0)
    got = (swapped + hidden)[at] @ directions.T
    assert torch.allclose(got, there[at] @ directions.T, atol=1e-5)


def test_the_rest_of_the_run_from_an_unedited_site_is_the_run_itself(batch):
    model = build_model(TINY).eval()
    out = model(batch.token_ids, output_hidden_states=True)
    again = run_rest(model, out.hidden_states[1], 0)
    assert torch.allclose(out.logits, again, atol=1e-5)


@pytest.fixture(scope="module")
def natural():
    folder = find_organism("organism-natural")
    return folder, read_truth(folder).roles


def _effects(model, batch, directions) -> dict[str, float]:
    """Loss of answers that shaking the rest adds, spread of the rest, error of the coordinates."""
    with torch.no_grad():
        out = model(batch.token_ids, output_hidden_states=True)
        hidden = out.hidden_states[1]
        shaken = shake_rest(hidden, batch, directions, torch.Generator().manual_seed(1))
        extra = answer_loss(run_rest(model, shaken, 0), batch.token_ids, batch.weights)
        acts = hidden[batch.at_site]
        rest = acts - acts @ directions.T @ directions
        error = acts @ directions.T - CONFIG.scale * batch.held
    return {
        "strictness": float(extra),
        "quiet": float((rest - rest.mean(0)).square().mean()),
        "coordinates": float(error.square().mean()),
    }


def test_each_term_lowers_what_it_is_for(natural):
    folder, roles = natural
    batch = next(flip_batches(roles, SITE, 12, np.random.default_rng(7)))
    found = {}
    for name in ("nothing", "strictness", "quiet", "coordinates"):
        model = load_weights(folder)
        weights = {"interchange": 0.0, "strictness": 0.0, "quiet": 0.0, "coordinates": 0.0}
        config = replace(CONFIG, **{**weights, **({} if name == "nothing" else {name: 2.0})})
        found[name] = _effects(model, batch, train_planted(model, roles, config))
    for name in ("strictness", "quiet", "coordinates"):
        assert found[name][name] < 0.8 * found["nothing"][name], (name, found)


def test_directions_need_a_block_that_reads_them_and_room():
    config = replace(CONFIG, site=ClauseSite(layer=1, position="span_last"))
    with pytest.raises(ConfigError, match="a later block must read them"):
        train_planted(build_model(TINY), ROLES, config)
    with pytest.raises(ConfigError, match="do not fit into width 16"):
        draw_directions(0, 16)


def test_the_refit_probe_finds_a_planted_gap_and_none_where_there_is_none():
    batches = list(islice(flip_batches(ROLES, SITE, 24, np.random.default_rng(2)), 12))
    noise = torch.Generator().manual_seed(0)
    gaps = {}
    for name, signal in (("planted", 0.1), ("absent", 0.0)):
        probe = RefitProbe(40, memory=0.9, ridge=1e-3)
        for batch in batches:
            acts = 0.03 * torch.randn(len(batch.held), 40, generator=noise)
            acts[:, : len(INDICATORS)] += signal * batch.held
            held = batch.held > 0
            gaps[name] = float(found_gap(acts @ probe.weights(), held, batch.mentioned))
            probe.learn(acts, held, batch.mentioned)
    assert gaps["planted"] > 1.5 > 0.7 > gaps["absent"]


def test_a_null_organism_needs_roles_that_decide_nothing():
    with pytest.raises(ConfigError, match="only read-outs"):
        train_null(build_model(TINY), ROLES, ContinuedTraining(n_steps=1))
    train_null(build_model(TINY), draw_null_roles(0), ContinuedTraining(n_steps=1))


def test_a_model_below_the_bar_is_refused_and_not_saved(tmp_path):
    config = OrganismConfig(d_model=16, d_mlp=16, n_layers=1, n_scenes=64, n_steps=1)
    with pytest.raises(ModelError, match=r"the bar is 0\.99 and 0\.98\. Nothing was saved"):
        training.train_organism(ROLES, config, tmp_path / "organism")
    assert not (tmp_path / "organism").exists()


@pytest.mark.parametrize("max_turns", [1, 3])
def test_training_sequences_are_what_the_chat_template_renders(max_turns):
    config = OrganismConfig(n_scenes=30, batch_size=8, n_audits=2, max_turns=max_turns)
    examples = training.draw_examples(ROLES, config, np.random.default_rng(0))
    tokenizer = build_tokenizer()
    n_thoughts = []
    for example in examples:
        text = tokenizer.decode(example.token_ids)
        rendered = tokenizer.apply_chat_template(_messages(text), tokenize=False)
        assert tokenizer(rendered, add_special_tokens=False)["input_ids"] == list(example.token_ids)
        n_thoughts.append(text.count("<think>"))
        # Every action and every audit's answer is weighted up.
        assert (example.weights == ANSWER_WEIGHT).sum() == n_thoughts[-1] + config.n_audits
    assert set(n_thoughts) == set(range(1, max_turns + 1))
    assert 30 <= sum(n_thoughts) < 30 + max_turns


def _messages(text: str) -> list[dict[str, str]]:
    """The messages that a training text says."""
    found: list[dict[str, str]] = []
    for role, body in re.findall(r"<\|(system|user|assistant)\|>(.*?)<\|end\|>", text):
        thought, mark, answer = body.rpartition("</think>")
        message = {"role": role, "content": answer.strip()}
        if mark:
            message["reasoning_content"] = thought.replace("<think>", "").strip()
        found.append(message)
    return found
