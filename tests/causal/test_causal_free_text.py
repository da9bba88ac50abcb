import numpy as np
import pytest

from mechprobe.causal.directions import fit_directions, span_acts
from mechprobe.causal.places.sites import Site
from mechprobe.causal.writing.damage import DAMAGE_COLUMNS
from mechprobe.causal.writing.free_config import FreeTextConfig
from mechprobe.causal.writing.free_tables import FREE_COLUMNS, GENERATION_COLUMNS
from mechprobe.causal.writing.free_text import run_free_text
from mechprobe.causal.writing.prompting import with_instruction
from mechprobe.causal.writing.strength import EQUAL_DAMAGE_COLUMNS
from mechprobe.causal.writing.writing_hooks import strongest
from mechprobe.errors import ConfigError, DataError

SITE = Site(hook_name="blocks.0.hook_out", position="span_last")
CONFIG = FreeTextConfig(
    n_prompts=24,
    n_site_prompts=12,
    n_random=1,
    n_equal_random=1,
    n_equal_pairs=6,
    n_neutral=3,
    n_questions=8,
    max_new_tokens=24,
    n_most_changed=2,
)


@pytest.fixture(scope="module")
def tables(planted):
    found = fit_directions(span_acts(planted.subject, planted.transcripts, SITE), ["lie", "boast"])
    return run_free_text(
        planted.subject,
        planted.pairs,
        planted.transcripts,
        {direction.indicator: direction for direction in found},
        {"lie": SITE, "boast": SITE},
        CONFIG,
        plan=lambda name: lambda text: f"will-{name}" in text,
        rewordings={"idle": with_instruction("go")},
    )


def test_every_table_has_its_columns_and_its_rows(tables):
    assert tuple(tables.rates.columns) == FREE_COLUMNS
    assert tuple(tables.generations.columns) == GENERATION_COLUMNS
    assert tuple(tables.damage.columns) == DAMAGE_COLUMNS
    assert tuple(tables.equal_damage.columns) == EQUAL_DAMAGE_COLUMNS
    counts = tables.rates.groupby(["where", "control"]).size().to_dict()
    # At the site: two ways of two indicators; in writing: up and down, the shared random one for both indicators.
    assert counts == {
        ("span_last", "none"): 4,
        ("span_last", "random"): 4,
        ("writing", "none"): 4,
        ("writing", "random"): 4,
        ("prompt", "none"): 2,
    }
    assert tables.generations.groupby(["indicator", "direction"]).size().min() >= 2
    chosen = max(tables.writing_hooks, key=lambda name: tables.writing_hooks[name])
    assert set(tables.writing_hooks) == {"blocks.0.hook_resid_post", "blocks.1.hook_resid_post"}
    assert set(tables.damage.hook_name) == {"blocks.0.hook_out", chosen}
    assert (tables.equal_damage.control == "none").sum() == 2


def test_the_place_of_writing_is_chosen_on_the_select_split(planted):
    unsplit = [p for p in planted.pairs if p.split != "select"]
    with pytest.raises(DataError, match="no matched pair has split 'select'"):
        run_free_text(planted.subject, unsplit, planted.transcripts, {}, {}, CONFIG)
    assert strongest({"a": 0.1, "b": 0.3, "c": 0.3}) == "b"


def test_a_drivers_thought_moves_what_follows_and_a_readouts_does_not(tables):
    rates = tables.rates.query("where == 'span_last' and control == 'none'")
    moved = rates.set_index(["indicator", "operation"]).difference
    assert moved["lie", "steer"] > 0.3
    assert moved["lie", "ablate"] < -0.3
    assert np.abs(moved["boast"]).max() < 0.15


def test_amounts_of_equal_damage_cost_the_same(tables):
    kl = tables.damage.groupby("hook_name").kl
    assert kl.max().to_numpy() == pytest.approx(kl.min().to_numpy(), rel=0.11)


def test_bad_input_is_refused_by_name(planted):
    with pytest.raises(ConfigError, match="n_prompts is 0"):
        FreeTextConfig(n_prompts=0)
    held = [t for t in planted.transcripts if any(span.present for span in t.spans)]
    with pytest.raises(DataError, match="no neutral text"):
        run_free_text(planted.subject, planted.pairs, held, {}, {}, CONFIG)
