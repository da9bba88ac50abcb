"""Numbers come out of pickles and torch files; nothing that they name is run."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from mechprobe.errors import CheckpointError
from mechprobe.probes.exchange import torch_files
from mechprobe.probes.exchange.pickle_reader import read_pickle
from mechprobe.probes.exchange.pickled_arrays import StandIn, as_array
from mechprobe.probes.exchange.torch_files import read_arrays

WEIGHT = torch.arange(12, dtype=torch.float32).reshape(3, 4)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        read_arrays(path)
    return str(refused.value)


@contextmanager
def nothing_runs() -> Generator[None, None, None]:
    """While this lasts, every usual way to run something fails the test."""

    def ran(*arguments: object, **_: object) -> None:
        raise AssertionError(f"the file ran something: {arguments}")

    ways = (
        *("os.system", "os.popen", "os.makedirs", "subprocess.Popen", "torch.load"),
        *("pickle.Unpickler", "pickle.loads", "builtins.eval", "builtins.open"),
    )
    with ExitStack() as patches:
        for way in ways:
            patches.enter_context(mock.patch(way, ran))
        yield


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def attacks(mark: Path) -> dict[str, bytes]:
    """Pickles written by hand, each of which runs something when it is unpickled."""
    write = f"open({str(mark)!r}, 'w')"
    command = text(f"touch {mark}")
    shell = named("os", "system") + command
    old_file = io.BytesIO()
    torch.save(WEIGHT, old_file, _use_new_zipfile_serialization=False)
    evil_zip = io.BytesIO()
    with zipfile.ZipFile(evil_zip, "w") as archive:
        archive.writestr("archive/data.pkl", shell + b"\x85R.")
    inner = b"B" + struct.pack("<I", len(evil_zip.getvalue())) + evil_zip.getvalue()
    return {
        "os.system": shell + b"\x85R.",
        "builtins.eval": named("builtins", "eval") + text(write) + b"\x85R.",
        "named in text": b"\x80\x04" + b"\x8c\x02os\x8c\x06system\x93" + command + b"\x85R.",
        "dotted name": b"\x80\x04" + b"\x8c\x08builtins\x8c\x11getattr.__class__\x93)R.",
        "getattr chain": named("builtins", "getattr")
        + named("os", "path")
        + text("os")
        + b"\x86R.",
        "through an allowed module": named("torch._utils", "os.system") + command + b"\x85R.",
        "an allowed function's insides": named("torch._utils", "_rebuild_tensor_v2.__globals__")
        + b".",
        "INST": b"(" + command + b"ios\nsystem\n.",
        "OBJ": b"(" + named("os", "system") + command + b"o.",
        "NEWOBJ": named("subprocess", "Popen") + command + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04" + named("subprocess", "Popen") + command + b"\x85}\x92.",
        "an extension code": b"\x80\x02\x82\x01)R.",
        "BUILD on a dictionary": b"}" + b"}" + text("__setstate__") + shell + b"\x85Rsb.",
        "BUILD on an allowed name": named("collections", "OrderedDict")
        + b"}"
        + text("a")
        + b"K\x01sb.",
        "calling text": text("os.system") + command + b"\x85R.",
        "calling a name that only stands for a type": named("torch", "FloatStorage")
        + command
        + b"\x85R.",
        "a persistent reference": text("x") + b"Q.",
        "a zip inside a tensor": named("torch.storage", "_load_from_bytes") + inner + b"\x85R.",
        "an old torch file inside, with a function": named("torch.storage", "_load_from_bytes")
        + b"B"
        + struct.pack("<I", len(old_file.getvalue()) + len(shell) + 3)
        + old_file.getvalue().replace(
            b"\x80\x02ctorch._utils", shell + b"\x85R0\x80\x02ctorch._utils", 1
        )
        + b"\x85R.",
    }


@pytest.mark.parametrize("attack", list(attacks(Path("/nowhere/ran"))))
def test_a_pickle_that_runs_something_is_refused_and_runs_nothing(attack: str, tmp_path: Path):
    path = written(tmp_path / "detector.pt", attacks(tmp_path / "ran")[attack])
    with nothing_runs():
        message = refusal(path)
    assert str(path) in message
    assert not (tmp_path / "ran").exists()


def test_the_attacks_are_real():
    """Python itself runs the plain ones, so the test above is about something."""

    class Harmless:
        def __reduce__(self):
            return (os.getpid, ())

    assert pickle.loads(pickle.dumps(Harmless())) == os.getpid()
    assert pickle.loads(named("os", "getpid") + b")R.") == os.getpid()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_class_with_reduce_is_refused_in_every_protocol(protocol: int, tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return (os.makedirs, (str(tmp_path / "ran"),))

    path = written(tmp_path / "detector.pt", pickle.dumps({"directions": Evil()}, protocol))
    with nothing_runs():
        message = refusal(path)
    assert "os.makedirs" in message
    assert not (tmp_path / "ran").exists()


def test_a_zip_from_torch_with_a_function_in_it_is_refused(tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return (os.makedirs, (str(tmp_path / "ran"),))

    path = tmp_path / "detector.pt"
    torch.save({"directions": WEIGHT, "evil": Evil()}, path)
    with nothing_runs():
        message = refusal(path)
    assert "os.makedirs" in message
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_and_arrays_come_out_as_pickle_gives_them(protocol: int, tmp_path: Path):
    value = {
        "text": "é",
        "numbers": [1, -3, 2**40, 2.5, True, None],
        "nested": {"a": (1, (2,), ()), 3: "x"},
        "bytes": b"\x00\xff",
    }
    arrays = {
        "rows": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        "counts": np.array([1, -2], dtype=np.int64),
        "flags": np.array([True, False]),
        "none": np.zeros(0, dtype=np.float32),
    }
    data = pickle.dumps({**value, **arrays, "scalar": np.float64(0.1)}, protocol)
    found = read_arrays(written(tmp_path / "values.pkl", data))
    assert {key: found[key] for key in value} == value
    assert found["scalar"] == 0.1
    for name, array in arrays.items():
        read = as_array(found[name])
        assert read is not None and read.dtype == array.dtype and np.array_equal(read, array)


TENSORS = {
    "plain": WEIGHT,
    "double": WEIGHT.double(),
    "half": WEIGHT.half(),
    "bfloat16": WEIGHT.bfloat16(),
    "integer": WEIGHT.long(),
    "transposed": WEIGHT.T,
    "part of a larger one": WEIGHT[1:, ::2],
    "parameter": torch.nn.Parameter(WEIGHT),
    "one number": torch.tensor(3.5),
}


@pytest.mark.parametrize("how", ["pickle", "torch zip", "torch old"])
@pytest.mark.parametrize("name", list(TENSORS))
def test_tensors_come_out_as_torch_gives_them(how: str, name: str, tmp_path: Path):
    path, tensor = tmp_path / "tensor.pt", TENSORS[name]
    if how == "pickle":
        path.write_bytes(pickle.dumps({"w": tensor}, 4))
    else:
        torch.save({"w": tensor}, path, _use_new_zipfile_serialization=how == "torch zip")
    read = as_array(read_arrays(path)["w"])
    assert read is not None and read.shape == tuple(tensor.shape)
    assert np.array_equal(read, tensor.detach().double().numpy())


def test_two_tensors_over_the_same_numbers_are_both_right(tmp_path: Path):
    path = tmp_path / "tied.pt"
    torch.save(OrderedDict(a=WEIGHT, b=WEIGHT[2]), path, _use_new_zipfile_serialization=False)
    found = read_arrays(path)
    assert np.array_equal(found["a"], WEIGHT) and np.array_equal(found["b"], WEIGHT[2])


@pytest.mark.parametrize("how", ["pickle", "torch zip", "torch old"])
def test_a_file_cut_anywhere_is_one_clear_error(how: str, tmp_path: Path):
    whole = tmp_path / "whole.pt"
    value = {"layers": [3], "directions": WEIGHT}
    if how == "pickle":
        whole.write_bytes(pickle.dumps(value, 4))
    else:
        torch.save(value, whole, _use_new_zipfile_serialization=how == "torch zip")
    data = whole.read_bytes()
    for n_bytes in range(1, len(data), 7):
        message = refusal(written(tmp_path / "cut.pt", data[:n_bytes]))
        assert "cut.pt" in message and "\n" not in message


def test_a_flipped_byte_never_gives_anything_but_numbers_or_a_clear_error(tmp_path: Path):
    data = pickle.dumps({"layers": [3], "directions": WEIGHT}, 4)
    n_refused = 0
    for at in range(0, len(data), 3):
        broken = data[:at] + bytes([data[at] ^ 0x15]) + data[at + 1 :]
        try:
            read_arrays(written(tmp_path / "broken.pt", broken))
        except CheckpointError:
            n_refused += 1
    assert n_refused > len(data) / 12


def test_an_empty_a_missing_and_a_huge_file_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert "0 bytes" in refusal(written(tmp_path / "empty.pt", b""))
    assert "does not exist" in refusal(tmp_path / "missing.pt")
    monkeypatch.setattr(torch_files, "MAX_BYTES", 100)
    huge = refusal(written(tmp_path / "huge.pt", b"x" * 101))
    assert "101 bytes" in huge and "between 1 and 100" in huge


def test_a_zip_that_unpacks_to_far_more_is_not_unpacked(tmp_path: Path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", b"\0" * (torch_files.MAX_BYTES + 1))
    assert path.stat().st_size < 1e6
    assert "bytes are read" in refusal(path)


def tensor_pickle(n_numbers: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A zip-format pickle whose tensor claims what it likes."""
    numbers = b"".join(
        b"(" + b"".join(b"J" + struct.pack("<i", n) for n in part) + b"t" for part in (size, stride)
    )
    reference = (
        b"("
        + text("storage")
        + named("torch", "FloatStorage")
        + text("0")
        + text("cpu")
        + b"J"
        + struct.pack("<i", n_numbers)
        + b"tQ"
    )
    return (
        b"\x80\x02" + named("torch._utils", "_rebuild_tensor_v2") + b"(" + reference + b"K\x00"
        + numbers + b"\x89}tR."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("n_numbers", "size", "stride", "wanted"),
    [
        (4, (4,), (1,), None),
        (4, (5,), (1,), "outside"),
        (4, (2,), (-1,), "outside"),
        (4, (2**20, 2**10), (0, 0), "outside"),
        (5, (4,), (1,), "claims 5 numbers"),
        (-1, (1,), (1,), "claims -1 numbers"),
    ],
)
def test_a_tensor_cannot_reach_outside_of_its_numbers(
    n_numbers: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    wanted: str | None,
    tmp_path: Path,
):
    path = tmp_path / "tensor.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", tensor_pickle(n_numbers, size, stride))
        archive.writestr("archive/data/0", np.arange(4, dtype=np.float32).tobytes())
    if wanted is None:
        assert read_arrays(path).tolist() == [0, 1, 2, 3]
    else:
        assert wanted in refusal(path)


def test_a_number_that_would_fill_the_memory_costs_nothing(tmp_path: Path):
    """The memo of Python's own unpickler grows to the index that a file names."""
    assert read_pickle(io.BytesIO(b"K\x07r\xff\xff\xff\x7f."), {}) == 7
    long = b"\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01."
    assert "whole pickle" in refusal(written(tmp_path / "long.pt", long))


def test_a_key_that_cannot_be_hashed_in_time_is_refused(tmp_path: Path):
    nested = b")" + b"".join(b"q\x00h\x00\x86" for _ in range(64))
    assert "key" in refusal(written(tmp_path / "slow.pt", b"}" + nested + b"K\x01s."))


def test_an_object_of_the_authors_classes_is_its_fields_only(tmp_path: Path):
    data = (
        named("deception_detection.detectors", "LogisticRegressionDetector")
        + b")\x81}" + text("layers") + b"]K\x03as" + text("directions") + pickle.dumps(1.5, 2)[2:-1]
        + b"sb."
    )  # fmt: skip
    found = read_arrays(written(tmp_path / "object.pt", data))
    assert isinstance(found, StandIn)
    assert found.fields == {"layers": [3], "directions": 1.5}


def test_an_array_of_objects_is_refused(tmp_path: Path):
    data = pickle.dumps(np.array([{"a": 1}, None], dtype=object), 4)
    assert "no number" in refusal(written(tmp_path / "objects.pkl", data))


def test_big_endian_numbers_are_refused(tmp_path: Path):
    data = pickle.dumps(np.arange(3, dtype=">f4"), 4)
    assert "big-endian" in refusal(written(tmp_path / "swapped.pkl", data))
