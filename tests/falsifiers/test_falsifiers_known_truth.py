"""On the organism the truth is known: a probe of thoughts must survive, a bag of words must not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mechprobe.errors import ConfigError, DataError, ShapeError
from mechprobe.falsifiers.config import FALSIFIER_COLUMNS, FALSIFIERS, READINGS, FalsifierConfig
from mechprobe.falsifiers.organism_wording import organism_wording
from mechprobe.falsifiers.running import run_falsifiers, scorers_of, summarise
from mechprobe.falsifiers.wording import Wording
from mechprobe.models.organism.vocabulary import INDICATOR_CELLS, OBJECTS, VERBS
from mechprobe.probes.probe_set import ProbeSet
from tests.falsifiers.conftest import INDICATOR, SITE

pytestmark = pytest.mark.slow
CONFIG = FalsifierConfig(n_passages=24, n_sections=6, n_boot=100, n_masked=4)


def run(organism, scorers, config=CONFIG, transcripts=None, **more) -> pd.DataFrame:
    return run_falsifiers(
        organism.subject,
        organism.transcripts if transcripts is None else transcripts,
        {INDICATOR: scorers},
        config,
        **{"wording": organism_wording(), **more},
    )


@pytest.fixture(scope="module")
def at_the_end(organism, thought, nothing, noise) -> pd.DataFrame:
    """Scorers that are read at the last token of a passage."""
    return run(organism, [thought, nothing, noise])


@pytest.fixture(scope="module")
def anywhere(organism, object_word, frame_word) -> pd.DataFrame:
    """Scorers of words, which read a passage by its highest token."""
    return run(organism, [object_word, frame_word], replace(CONFIG, reading="max"))


def rows(table: pd.DataFrame, scorer: str, falsifier: str) -> pd.DataFrame:
    found = table[(table["scorer"] == scorer) & (table["falsifier"] == falsifier)]
    return found.set_index("variant")


def test_a_probe_of_a_thought_survives_where_its_words_suffice_for_nothing(at_the_end):
    injection = rows(at_the_end, "thought", "injection")
    assert (injection.filter(like="score", axis=0)["reading"] == "survives").all()
    assert (injection.filter(like="score", axis=0)["figure"] < 0.2).all()
    # Verb and object together nearly state the thought, and raise it part of the way.
    assert "fails" not in set(injection["reading"]) and (injection["figure"] < 0.7).all()
    assert rows(at_the_end, "thought", "paraphrase").loc["synonyms", "reading"] == "survives"
    context = rows(at_the_end, "thought", "context")
    assert (context.loc[["short", "without_span"], "reading"] == "survives").all()
    assert context.loc["short", "figure"] < 0.3
    matched = rows(at_the_end, "thought", "keywords").loc["matched"]
    assert matched["reading"] == "survives" and matched["figure"] > 0.9


def test_a_bag_of_words_fails_where_its_words_suffice_or_are_gone(anywhere):
    injection = rows(anywhere, "object_word", "injection")
    assert set(injection["reading"]) == {"fails"}
    assert (injection["figure"] > 0.9).all() and (injection["control"] < 0.3).all()
    short = rows(anywhere, "object_word", "context").loc["short"]
    assert short["reading"] == "fails" and short["figure"] == pytest.approx(1.0, abs=0.05)
    assert short["control"] < 0.3
    masking = rows(anywhere, "object_word", "masking").loc["telling"]
    assert masking["reading"] == "fails"
    assert masking["figure"] == pytest.approx(0.0, abs=1e-9) and masking["control"] > 0.9
    matched = rows(anywhere, "object_word", "keywords").loc["matched"]
    assert matched["reading"] == "fails" and matched["figure"] < 0.2


def test_masking_words_that_a_scorer_does_not_read_leaves_it_all_its_detection(anywhere):
    cell = INDICATOR_CELLS[INDICATOR]
    masking = rows(anywhere, "frame_word", "masking").loc["telling"]
    assert set(masking["words"].split()) == {*VERBS[cell[0]], *OBJECTS[cell[1]]}
    assert masking["reading"] == "survives" and masking["figure"] == pytest.approx(1.0, abs=1e-6)
    assert masking["control"] < masking["figure"]


def test_synonyms_tell_a_scorer_of_one_of_them_apart(organism, of_words, object_word):
    one = of_words("one_word", OBJECTS[INDICATOR_CELLS[INDICATOR][1]][:1])
    config = replace(
        CONFIG, reading="max", falsifiers=("paraphrase",), min_auroc=0.5, n_passages=60
    )
    table = run(organism, [one, object_word], config).set_index("scorer")
    # Half of the positives have the word, all of them change by all of it: twice the gap to text without it.
    assert table.loc["one_word", "reading"] == "fails" and table.loc["one_word", "figure"] > 1
    assert table.loc["one_word", "rank_correlation"] < 0.5
    assert table.loc["object_word", "reading"] == "survives"
    assert table.loc["object_word", "figure"] == 0
    assert table.loc["object_word", "control"] > 0.8


def test_a_scorer_that_tells_nothing_has_no_signal_and_no_figures(at_the_end):
    for scorer in ("nothing", "noise"):
        own = at_the_end[at_the_end["scorer"] == scorer]
        assert set(own["reading"]) <= {"no signal", "too few"}
        assert own[["figure", "low", "high", "control", "auroc"]].isna().all(axis=None)
    assert (at_the_end.loc[at_the_end["scorer"] == "nothing", "natural"].dropna() == 0.5).all()


def test_four_positives_are_too_few_to_say_anything(organism, thought):
    tried = [t for t in organism.transcripts if t.split == "test"]
    holding = [t for t in tried if any(s.indicator == INDICATOR and s.present for s in t.spans)]
    kept = {t.id for t in holding[4:]}
    fewer = [t for t in organism.transcripts if t.id not in kept]
    table = run(organism, [thought], transcripts=fewer)
    assert set(table["reading"]) == {"too few"} and set(table["falsifier"]) == set(FALSIFIERS)
    assert (table["n_pos"] <= 4).all() and table["figure"].isna().all()


def test_the_table_is_the_same_again_and_of_other_indicators_beside_it(organism, thought):
    config = replace(CONFIG, n_passages=8, falsifiers=("injection", "masking"))
    once = run(organism, [thought], config)
    beside = run_falsifiers(
        organism.subject,
        organism.transcripts,
        {"fabrication": [thought], INDICATOR: [thought]},
        config,
        wording=organism_wording(),
    )
    again = beside[beside["indicator"] == INDICATOR].reset_index(drop=True)
    pd.testing.assert_frame_equal(once, again)
    assert tuple(once.columns) == FALSIFIER_COLUMNS and set(once["reading"]) <= set(READINGS)
    assert (once["seed"] == config.seed).all()
    other = run(organism, [thought], replace(config, seed=1))
    assert not other["figure"].equals(once["figure"])


def test_without_paraphrases_that_falsifier_is_left_out(organism, thought):
    config = replace(CONFIG, falsifiers=("paraphrase", "keywords"), n_passages=12)
    table = run(organism, [thought], config, wording=Wording())
    assert set(table["falsifier"]) == {"keywords"}


def test_the_summary_keeps_the_worst_reading(at_the_end, anywhere):
    found = summarise(pd.concat([at_the_end, anywhere])).set_index("scorer")
    assert (
        found.loc["object_word", ["injection", "masking", "context", "keywords"]].eq("fails").all()
    )
    assert found.loc["thought", ["paraphrase", "context", "keywords"]].eq("survives").all()
    assert set(found.loc["nothing", list(FALSIFIERS)]) == {"no signal"}


def test_probe_sets_and_features_become_scorers_by_indicator(thought):
    sets = ProbeSet(
        scorer="dense",
        hook_name=SITE,
        reads="acts",
        indicators=("fabrication", INDICATOR),
        probes=(thought.probe, thought.probe),
    )
    found = scorers_of([sets])
    assert list(found) == ["fabrication", INDICATOR]
    assert found[INDICATOR][0] == replace(thought, name="dense")
    with pytest.raises(ConfigError, match="give their SAE"):
        scorers_of([sets], {INDICATOR: [3]})


def test_mistakes_are_told_before_the_model_runs(organism, thought):
    with pytest.raises(ConfigError, match="nothing to falsify"):
        run_falsifiers(organism.subject, organism.transcripts, {})
    with pytest.raises(DataError, match="need both"):
        run(organism, [thought], transcripts=organism.transcripts[:1])
    with pytest.raises(ConfigError, match="give the one SAE"):
        run(organism, [replace(thought, reads="feature_acts")])
    with pytest.raises(ConfigError, match=r"max_share is 1\.5"):
        FalsifierConfig(max_share=1.5)
    narrow = replace(thought.probe, weight=np.zeros(3, np.float32))
    with pytest.raises(ShapeError, match="width 3"):
        run(organism, [replace(thought, probe=narrow)])
