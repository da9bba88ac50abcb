"""A flipped byte anywhere in a store is found, with the file, the hook point and the rows it may have touched."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mechprobe.activations.capture import capture
from mechprobe.activations.durable import BLOCK_BYTES
from mechprobe.activations.recompute import load_subject, recompute
from mechprobe.activations.store import ActivationStore
from mechprobe.activations.summary import summary_lines
from mechprobe.activations.verification import find_damage
from mechprobe.cli.main import main
from mechprobe.errors import StoreError
from mechprobe.models.subject import Subject
from mechprobe.transcripts.jsonl import write_transcripts
from mechprobe.transcripts.transcript import Message, Transcript, number_turns
from tests.activations.stores import write_store

HOOK, OTHER = "blocks.0.hook_out", "blocks.1.hook_out"
SIZES = (5, 7, 3)


def small_store(folder: Path) -> ActivationStore:
    generator = torch.Generator().manual_seed(0)
    acts = {HOOK: torch.randn(15, 4, generator=generator), OTHER: torch.randn(15, 6)}
    return write_store(folder, acts, SIZES, cuts=(1,))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


def test_a_flipped_byte_anywhere_is_found(tmp_path: Path):
    small_store(tmp_path / "s")
    assert find_damage(tmp_path / "s") == []
    rng = np.random.default_rng(0)
    for path in sorted((tmp_path / "s").iterdir()):
        for place in rng.integers(0, path.stat().st_size, size=12).tolist():
            flip(path, place)
            try:
                found = [one.file.name for one in find_damage(tmp_path / "s")]
            except StoreError as error:
                found = [str(error)]
            assert len(found) >= 1 and path.name in found[0], (path.name, place)
            flip(path, place)
    assert find_damage(tmp_path / "s") == []


def test_damage_is_located_by_hook_point_and_rows(tmp_path: Path):
    store = small_store(tmp_path / "s")
    path = store.path(1)
    place = store.places(1)[OTHER]
    flip(path, place.offset + 3)
    (damage,) = find_damage(tmp_path / "s")
    assert (damage.file, damage.hook_name, damage.rows) == (path, OTHER, (5, 14))
    flip(path, place.offset + 3)
    flip(path, 20)
    (damage,) = find_damage(tmp_path / "s")
    assert "header" in damage.found


def test_rows_are_named_to_the_megabyte(tmp_path: Path):
    width = BLOCK_BYTES // 4 // 8
    store = write_store(tmp_path / "s", {HOOK: torch.zeros(40, width)}, (30, 10))
    flip(store.path(0), store.places(0)[HOOK].offset + 17 * width * 4)
    (damage,) = find_damage(tmp_path / "s")
    assert damage.rows == (16, 23)


def test_what_is_missing_or_cut_off_is_listed_in_full(tmp_path: Path):
    store = small_store(tmp_path / "s")
    (tmp_path / "s" / "shard-00000.parquet").unlink()
    store.path(1).write_bytes(store.path(1).read_bytes()[:-1])
    found = [str(damage) for damage in find_damage(tmp_path / "s")]
    assert any("shard-00000.parquet, rows 0 to 4: is missing" in line for line in found)
    assert any(f"shard-00001.safetensors, {OTHER}, rows 5 to 14" in line for line in found)
    assert any("bytes, its sidecar says" in line for line in found)


def test_the_command_says_where_and_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    store = small_store(tmp_path / "s")
    main(["store", "verify", str(tmp_path / "s")])
    assert "every byte of 2 shards is what was written" in capsys.readouterr().out
    flip(store.path(1), store.places(1)[HOOK].offset)
    with pytest.raises(SystemExit, match="1"):
        main(["store", "verify", str(tmp_path / "s")])
    assert f"shard-00001.safetensors, {HOOK}, rows 5 to 14" in capsys.readouterr().out


def test_info_is_one_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    small_store(tmp_path / "s")
    main(["store", "info", str(tmp_path / "s")])
    lines = capsys.readouterr().out.splitlines()
    assert "15 tokens of 3 conversations, float32" in lines[0]
    assert any(line.split()[:3] == ["user", "answer", "3"] for line in lines)
    assert any(line.split()[:2] == [OTHER, "6"] for line in lines)
    assert len(lines) <= 24 and max(map(len, lines)) <= 160
    assert lines == list(summary_lines(ActivationStore.open(tmp_path / "s")))


TRANSCRIPTS = [
    Transcript(
        id=f"t{index}",
        messages=number_turns(
            (
                Message(role="user", content="task " * (1 + index)),
                Message(role="assistant", reasoning="plan hide", content="done"),
            )
        ),
    )
    for index in range(6)
]


def captured(model: Path, out: Path) -> tuple[ActivationStore, Subject]:
    subject = Subject.load(model)
    return capture(TRANSCRIPTS, subject, [HOOK, OTHER], out, shard_tokens=8), subject


def test_rows_computed_again_are_those_stored(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store, subject = captured(tiny_llama, tmp_path / "store")
    found = recompute(store, load_subject(store, str(tiny_llama)), TRANSCRIPTS, 4)
    assert [(one.hook_name, one.n_conversations, one.is_alike) for one in found] == [
        (HOOK, 4, True),
        (OTHER, 4, True),
    ]
    assert all(0 < one.largest < 0.005 and one.tolerance == 0.006 for one in found)
    # A store whose rows stand one place off is whole, and wrong.
    moved = {name: store.acts(name).roll(1, 0) for name in store.hook_names}
    with monkeypatch.context() as patch:
        patch.setattr(ActivationStore, "acts", lambda _, name, rows: moved[name][rows])
        wrong = recompute(store, subject, TRANSCRIPTS, 6)
    assert not any(one.is_alike for one in wrong)
    assert "DIFFERENT" in str(wrong[0]) and "tolerance 0.006" in str(wrong[0])


def test_another_model_or_other_transcripts_are_refused(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store, subject = captured(tiny_llama, tmp_path / "store")
    with pytest.raises(StoreError, match="is 't0', the transcripts given have 't1' there"):
        recompute(store, subject, TRANSCRIPTS[1:], 6)
    other = [Transcript(id=one.id, messages=one.messages[::-1][-1:]) for one in TRANSCRIPTS]
    with pytest.raises(StoreError, match="has other tokens now"):
        recompute(store, subject, other, 6)
    monkeypatch.setitem(vars(subject), "model_digest", "f" * 64)
    with pytest.raises(StoreError, match="load the model that was captured"):
        recompute(store, subject, TRANSCRIPTS, 6)


def test_the_command_computes_again(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    captured(tiny_llama, tmp_path / "store")
    (tmp_path / "transcripts").mkdir()
    write_transcripts(tmp_path / "transcripts" / "transcripts.jsonl", TRANSCRIPTS)
    folder = str(tmp_path / "store")
    main(["store", "verify", folder, "--recompute", "2", "--model", str(tiny_llama)])
    assert "2 conversations computed anew" in capsys.readouterr().out
