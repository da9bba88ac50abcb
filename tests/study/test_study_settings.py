"""Study files: what is read, and what is refused by name."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from mechprobe.errors import ConfigError, DataError
from mechprobe.study.config import read_study
from mechprobe.study.settings import build_config, read_settings, write_settings

ANALYSES = Path(__file__).parents[2] / "analyses"


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outer:
    out: Path
    kind: Literal["a", "b"] = "a"
    limit: int | None = None
    inner: Inner = field(default_factory=Inner)


def test_settings_become_the_types_that_the_fields_name():
    found = build_config(
        Outer, {"out": "runs/x", "limit": 3, "inner": {"rate": 1, "names": ["p", "q"]}}
    )
    assert found == Outer(out=Path("runs/x"), limit=3, inner=Inner(rate=1.0, names=("p", "q")))
    assert isinstance(found.inner.rate, float)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"out": "x", "kid": "a"}, "unknown setting 'kid'; did you mean kind"),
        ({"out": "x", "inner": {"rat": 1}}, "unknown setting 'inner.rat'; did you mean rate"),
        ({"kind": "a"}, "setting 'out' is missing"),
        ({"out": "x", "kind": "c"}, "must be one of 'a', 'b'"),
        ({"out": "x", "inner": {"rate": "high"}}, "'inner.rate' is 'high'"),
        ({"out": "x", "limit": True}, "'limit' is True"),
        ({"out": "x", "inner": 3}, "a table with the settings of Inner"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, message):
    with pytest.raises(ConfigError, match=message):
        build_config(Outer, settings)


def test_overrides_lie_over_the_file_and_keep_their_toml_type(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text('name = "x"\n[inner]\nrate = 0.1\n')
    found = read_settings(
        path, ["inner.rate=0.25", "name=a b", "new.deep=[1, 2]", 'quoted="3"', "folder=/a=b"]
    )
    assert found == {
        "name": "a b",
        "inner": {"rate": 0.25},
        "new": {"deep": [1, 2]},
        "quoted": "3",
        "folder": "/a=b",
    }
    with pytest.raises(ConfigError, match=r"key\.path=value"):
        read_settings(path, ["inner.rate"])
    with pytest.raises(ConfigError, match="is a value, not a table"):
        read_settings(path, ["name.x=1"])


def test_settings_survive_being_written(tmp_path):
    path = tmp_path / "study.toml"
    settings = {"name": 'a "b" é', "n": 1, "ok": True, "x": {"r": 0.5, "y": {"l": ["a"]}}, "z": {}}
    path.write_text(write_settings(settings))
    assert read_settings(path) == {k: v for k, v in settings.items() if v != {}}


def test_stages_get_the_study_s_seed_unless_they_have_their_own():
    found = read_study(ANALYSES / "organism.toml", ["seed=5", "sae.seed=7"])
    assert (found.seed, found.data.seed, found.sae.seed, found.causal.seed) == (5, 5, 7, 5)


def test_a_missing_or_broken_file_is_explained(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_settings(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(DataError, match="not valid TOML"):
        read_settings(tmp_path / "bad.toml")


def test_the_shipped_studies_can_be_read():
    organism = read_study(ANALYSES / "organism.toml", ["organism=elsewhere", "out=there"])
    assert organism.organism == "elsewhere" and organism.out == Path("there")
    with pytest.raises(ConfigError, match="--set transcripts=PATH"):
        read_study(ANALYSES / "transcripts.toml")
    found = read_study(ANALYSES / "transcripts.toml", ["transcripts=file.jsonl"])
    assert found.transcripts == Path("file.jsonl") and found.loading.window == 256
