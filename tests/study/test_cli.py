"""The command line: fast help, and for every mistake one clear line, exit code 1 and nothing damaged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mechprobe.cli.main import main

STUDY = Path(__file__).parents[2] / "analyses" / "transcripts.toml"
GOOD = {
    "id": "one",
    "messages": [
        {"role": "user", "content": "Is it done?"},
        {"role": "assistant", "reasoning": "I will hide the logs.", "content": "Yes."},
    ],
}


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail as users' mistakes do, and return what it says."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == 1
    lines = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("mechprobe: ")
    ]
    assert len(lines) == 1
    return lines[0]


def write_lines(path: Path, *values: object) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def spans(*found: dict[str, object]) -> dict[str, object]:
    return {**GOOD, "spans": list(found)}


def test_help_answers_without_loading_a_model_library():
    code = (
        "import sys\nfrom mechprobe.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stopped:\n    assert not stopped.code\n"
        "heavy = {'torch', 'transformers', 'transformer_lens', 'sae_lens', 'plotly', 'sklearn'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    for command in (
        "import",
        "capture",
        "sae",
        "probe",
        "evaluate",
        "falsify",
        "bank",
        "causal",
        "report",
        "organism",
    ):
        assert command in done.stdout


def test_missing_and_empty_and_malformed_files(tmp_path, capsys):
    assert "none.jsonl" in mistake(
        capsys, "import", tmp_path / "none.jsonl", "--out", tmp_path / "o"
    )
    empty = write_lines(tmp_path / "empty.jsonl")
    assert "empty" in mistake(capsys, "import", empty, "--out", tmp_path / "o")
    broken = write_lines(tmp_path / "broken.jsonl", GOOD)
    with broken.open("a") as stream:
        stream.write('{"id": "two", "messages": [\n')
    assert "line 2" in mistake(capsys, "import", broken, "--out", tmp_path / "o")
    assert not (tmp_path / "o" / "transcripts.jsonl").exists()


def test_unknown_indicators_and_spans_that_are_not_in_the_text(tmp_path, capsys):
    unknown = write_lines(
        tmp_path / "unknown.jsonl", spans({"indicator": "fabrications", "text": "hide the logs"})
    )
    assert "fabrication" in mistake(capsys, "import", unknown, "--out", tmp_path / "o")
    absent = write_lines(
        tmp_path / "absent.jsonl", spans({"indicator": "fabrication", "text": "sell the car"})
    )
    assert "sell the car" in mistake(capsys, "import", absent, "--out", tmp_path / "o")


def test_a_table_without_the_named_column_lists_the_columns_it_has(tmp_path, capsys):
    table = tmp_path / "table.csv"
    table.write_text("answer,label\nyes,1\n")
    found = mistake(capsys, "import", table, "--out", tmp_path / "o", "--text", "reply")
    assert "reply" in found and "answer" in found


def test_a_failed_import_leaves_the_earlier_result_alone(tmp_path, capsys):
    good = write_lines(tmp_path / "good.jsonl", GOOD)
    main(["import", str(good), "--out", str(tmp_path / "o")])
    before = (tmp_path / "o" / "transcripts.jsonl").read_bytes()
    mistake(capsys, "import", write_lines(tmp_path / "empty.jsonl"), "--out", tmp_path / "o")
    assert (tmp_path / "o" / "transcripts.jsonl").read_bytes() == before


def test_models_without_tokenizer_or_template_and_hook_points_that_do_not_exist(
    tmp_path, capsys, tiny_llama
):
    source = write_lines(tmp_path / "good.jsonl", GOOD)

    def study(*settings: str) -> list[str]:
        given = [f"transcripts={source}", f"out={tmp_path / 'run'}", *settings]
        return [part for setting in given for part in ("--set", setting)]

    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text((tiny_llama / "config.json").read_text())
    assert "tokenizer" in mistake(capsys, "capture", STUDY, *study(f"model={bare}"))
    missing = mistake(capsys, "capture", STUDY, *study(f"model={tmp_path / 'nowhere'}"))
    assert "nowhere" in missing
    named = study(f"model={tiny_llama}", 'capture.hook_names=["blocks.1.hook_resid_pots"]')
    assert "blocks.1.hook_resid_post" in mistake(capsys, "capture", STUDY, *named)


def test_unknown_settings_and_organisms_name_what_there_is(tmp_path, capsys):
    study = STUDY.with_name("organism.toml")
    found = mistake(capsys, "study", study, "--set", "sae.d_sea=3", "--set", f"out={tmp_path}")
    assert "d_sae" in found
    found = mistake(capsys, "study", study, "--set", "organism=nobody", "--set", f"out={tmp_path}")
    assert "organism-natural" in found
