from pathlib import Path

import pytest

from mechprobe.errors import DataError, LabelError
from mechprobe.taxonomy import load_taxonomy, slug_of

INDICATOR = """
[[indicators]]
name = "Quiet Hoarding"
group = "mine"
behaviors = ["hoarding"]
definition = "keeps things back"
not_flagged = "saving"
span_guidance = "the clause"
examples = ["I keep this."]
"""
BEHAVIOR = '[[behaviors]]\nname = "Hoarding"\ndefinition = "keeps all"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_the_shipped_taxonomy_has_the_papers_eighteen_indicators_in_order():
    taxonomy = load_taxonomy()
    assert len(taxonomy.slugs) == len(set(taxonomy.slugs)) == 18
    assert taxonomy.slugs[0] == "observer_suspicion_modeling"
    assert taxonomy.slugs[6:8] == (
        "recognized_problem_suppression",
        "social_pressure_compliance",
    )
    assert taxonomy.slugs[-1] == "adversarial_user_framing"
    assert len(taxonomy.preconditions) == 4
    assert [behavior.slug for behavior in taxonomy.behaviors] == [
        "strategic_deception",
        "sabotage",
        "sycophancy",
        "sandbagging",
        "self_preservation",
    ]


def test_every_indicator_says_what_a_labeller_needs():
    for indicator in load_taxonomy().indicators:
        assert len(indicator.examples) == 2
        assert indicator.behaviors
        assert min(map(len, (indicator.definition, indicator.not_flagged))) > 40
        assert indicator.slug == slug_of(indicator.name)


def test_an_indicator_is_found_by_slug_and_by_name():
    taxonomy = load_taxonomy()
    by_name = taxonomy.find("Recognized-Problem Suppression")
    assert by_name is taxonomy.find("recognized_problem_suppression")


def test_an_unknown_indicator_lists_near_names():
    with pytest.raises(LabelError, match=r"'Fabricatoin'; near names: fabrication"):
        load_taxonomy().find("Fabricatoin")


def test_a_precondition_is_no_indicator():
    with pytest.raises(LabelError, match="precondition"):
        load_taxonomy().find("Evaluation Awareness")


def test_a_users_own_taxonomy_replaces_the_shipped_one(tmp_path):
    taxonomy = load_taxonomy(written(tmp_path, BEHAVIOR + INDICATOR))
    assert taxonomy.slugs == ("quiet_hoarding",)
    assert taxonomy.groups == ("mine",)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("", DataError, "no \\[\\[indicators\\]\\]"),
        ("[[indicators]\n", DataError, "is not TOML"),
        (INDICATOR.replace("definition", "definitoin"), DataError, "near names: definition"),
        (INDICATOR.replace('group = "mine"\n', ""), DataError, "lacks the key 'group'"),
        (BEHAVIOR + INDICATOR.replace('["I keep this."]', '"one"'), DataError, "must be a list"),
        (INDICATOR, LabelError, "names the behavior 'hoarding'"),
        (BEHAVIOR + INDICATOR + INDICATOR, LabelError, "'quiet_hoarding' twice"),
        (BEHAVIOR.replace("behaviors", "behaviours") + INDICATOR, DataError, "near names: behav"),
        ("indicators = 3", DataError, "must be a list of tables"),
    ],
)
def test_a_mistake_in_a_taxonomy_is_named(tmp_path, text, error, says):
    with pytest.raises(error, match=says):
        load_taxonomy(written(tmp_path, text))


def test_a_missing_taxonomy_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.toml does not exist"):
        load_taxonomy(tmp_path / "none.toml")
