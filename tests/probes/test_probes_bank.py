"""Banks: what they hold and refuse, several hook points together, calibrated probes, and banks of the first schema."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from jaxtyping import Float32
from safetensors.numpy import save_file

from mechprobe.errors import CheckpointError, ConfigError, ShapeError
from mechprobe.probes.bank import ProbeBank
from mechprobe.probes.estimators import scores_of
from mechprobe.probes.kinds.boosted import fit_boosted
from mechprobe.probes.kinds.calibrated import CalibratedProbe
from mechprobe.probes.kinds.directions import fit_ridge
from mechprobe.probes.kinds.layers import Layout, join_columns, layout_of
from mechprobe.probes.matrix import Matrix
from mechprobe.probes.probe import Probe
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.rows import LabelledRows
from mechprobe.probes.scoring.calibration import Calibration, fit_isotonic, fit_platt
from tests.probes.planted import INDICATORS, planted_rows

HOOK = "blocks.0.hook_out"


def ridge_set(scorer: str = "dense_ridge") -> ProbeSet:
    rows = planted_rows(0)
    return ProbeSet(
        scorer=scorer,
        hook_name=HOOK,
        reads="acts",
        indicators=INDICATORS,
        probes=fit_ridge(rows)[0],
    )


def boosted_set() -> ProbeSet:
    return ProbeSet(
        scorer="dense_boosted",
        hook_name=HOOK,
        reads="acts",
        indicators=INDICATORS,
        probes=fit_boosted(planted_rows(0), (4.0,))[0],
    )


def test_a_bank_names_what_it_holds_and_refuses_damage(tmp_path: Path) -> None:
    one = ridge_set()
    bank = ProbeBank(sets=(one, boosted_set()))
    with pytest.raises(ConfigError, match="the bank holds dense_ridge at "):
        bank.find("dense_logistic")
    with pytest.raises(ConfigError, match="stands twice"):
        ProbeBank(sets=(one, one))
    with pytest.raises(ConfigError, match="has no probe for 'b'"):
        one.probe("b")
    with pytest.raises(ShapeError, match="reads rows of width"):
        one.score_all(np.zeros((1, 3), dtype=np.float32))
    with pytest.raises(CheckpointError, match="holds no probe bank"):
        ProbeBank.load(tmp_path)
    bank.save(tmp_path)
    numbers, index = tmp_path / "probes.safetensors", tmp_path / "probes.json"
    whole = numbers.read_bytes()
    numbers.write_bytes(whole[:-9])
    with pytest.raises(CheckpointError, match="damaged"):
        ProbeBank.load(tmp_path)
    numbers.write_bytes(whole)
    for broken in ("[]", '{"sets": [{}]}', index.read_text().replace('"boosted"', '"cast"')):
        index.write_text(broken)
        with pytest.raises(CheckpointError):
            ProbeBank.load(tmp_path)


def test_a_bank_without_a_schema_number_is_read_as_the_first_program_wrote_it(
    tmp_path: Path,
) -> None:
    weight = np.array([[1.0, 2.0], [3.0, -4.0]], dtype=np.float32)
    save_file(
        {f"{HOOK}/dense_ridge/weight": weight, f"{HOOK}/dense_ridge/bias": np.array([0.5, -0.1])},
        tmp_path / "probes.safetensors",
    )
    probes = [
        {"indicator": name, "kind": "ridge", "settings": {"l2_strength": 1.0}} for name in "ab"
    ]
    described = {"scorer": "dense_ridge", "hook_name": HOOK, "reads": "acts", "probes": probes}
    (tmp_path / "probes.json").write_text(json.dumps({"sets": [described]}))
    bank = ProbeBank.load(tmp_path)
    found = bank.find("dense_ridge")
    assert bank.model is None and found.indicators == ("a", "b")
    assert np.array_equal(found.weight, weight.T) and found.bias.tolist() == [0.5, -0.1]
    assert found.probe("b").settings == {"l2_strength": 1.0}


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    ProbeBank(sets=(ridge_set(),)).save(tmp_path)
    index = tmp_path / "probes.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "schema": 3}))
    with pytest.raises(CheckpointError, match="of schema 3, this program reads up to 2"):
        ProbeBank.load(tmp_path)


def test_a_bank_of_another_model_hook_point_or_width_is_refused() -> None:
    bank = ProbeBank(sets=(ridge_set(),), model="toy")
    bank.check_fits("toy", {HOOK: 12, "blocks.1.hook_out": 12})
    with pytest.raises(CheckpointError, match="fitted on 'toy', not on 'other'"):
        bank.check_fits("other", {HOOK: 12})
    with pytest.raises(CheckpointError, match=r"width 12 at 'blocks.0.hook_out', .* width 16"):
        bank.check_fits("toy", {HOOK: 16})
    with pytest.raises(CheckpointError, match=r"where there is nothing; there are blocks.1"):
        bank.check_fits("toy", {"blocks.1.hook_out": 12})
    # Probes that read features are held against the SAE's width, not the model's.
    sae = ProbeSet(
        scorer="sae",
        hook_name=HOOK,
        reads="feature_acts",
        indicators=INDICATORS,
        probes=ridge_set().probes,
    )
    ProbeBank(sets=(sae,)).check_fits("any", {HOOK: 4}, {HOOK: 12})
    with pytest.raises(CheckpointError, match="there are none"):
        ProbeBank(sets=(sae,)).check_fits("any", {HOOK: 12})


def test_a_set_without_directions_says_so_and_still_scores() -> None:
    one, X = boosted_set(), planted_rows(1).X
    with pytest.raises(ConfigError, match="holds boosted probes, which have no one direction"):
        _ = one.weight
    with pytest.raises(ConfigError, match="no one direction"):
        one.probe(INDICATORS[0])
    scores = one.any_probe(INDICATORS[1]).score(X)
    assert np.array_equal(scores, one.score_all(X)[:, 1])


def test_a_set_of_several_kinds_is_stored_probe_by_probe(tmp_path: Path) -> None:
    mixed = (*ridge_set().probes[:1], *boosted_set().probes[1:])
    one = ProbeSet(
        scorer="mixed", hook_name=HOOK, reads="acts", indicators=INDICATORS, probes=mixed
    )
    ProbeBank(sets=(one,)).save(tmp_path)
    again = ProbeBank.load(tmp_path).find("mixed")
    assert [type(probe) for probe in again.probes] == [type(probe) for probe in mixed]
    X = planted_rows(1).X
    assert np.array_equal(again.score_all(X), one.score_all(X))


# Several hook points together.


def test_joined_layers_are_fitted_side_by_side_and_their_weight_comes_apart(
    tmp_path: Path,
) -> None:
    rows, more = planted_rows(0), planted_rows(0, d=7)
    parts = {"blocks.0.hook_out": rows.X, "blocks.2.hook_out": more.X}
    layout = layout_of(parts)
    joined = LabelledRows(X=layout.join(parts), labels=rows.labels, indicators=INDICATORS)
    one = ProbeSet(
        scorer="dense_ridge",
        hook_name=layout.hook_name,
        reads="acts",
        indicators=INDICATORS,
        probes=fit_ridge(joined)[0],
        layout=layout,
    )
    ProbeBank(sets=(one,)).save(tmp_path)
    again = ProbeBank.load(tmp_path).find("dense_ridge", "blocks.0.hook_out + blocks.2.hook_out")
    assert again.layout == layout and again.width == 19
    slices = again.split_weight()
    assert {name: part.shape for name, part in slices.items()} == {
        "blocks.0.hook_out": (12, 3),
        "blocks.2.hook_out": (7, 3),
    }
    by_hand = sum(np.asarray(parts[name]) @ part for name, part in slices.items()) + one.bias
    np.testing.assert_allclose(again.score_joined(parts), by_hand, atol=1e-3)
    assert np.array_equal(again.score_joined(parts), one.score_all(joined.X))
    with pytest.raises(ConfigError, match=r"no rows of blocks.2.hook_out"):
        again.score_joined({"blocks.0.hook_out": rows.X})
    with pytest.raises(ShapeError, match="wanted widths"):
        again.score_joined({**parts, "blocks.2.hook_out": rows.X})
    with pytest.raises(CheckpointError, match=r"width 7 at 'blocks.2.hook_out'"):
        ProbeBank(sets=(one,)).check_fits("toy", {"blocks.0.hook_out": 12})


def test_a_plain_set_reads_its_one_hook_point_out_of_many() -> None:
    one, X = ridge_set(), planted_rows(1).X
    assert np.array_equal(one.score_joined({HOOK: X, "else": X[:, :2]}), one.score_all(X))
    assert list(one.split_weight()) == [HOOK]


def test_columns_join_as_in_numpy_sparse_with_sparse() -> None:
    X = np.eye(3, dtype=np.float32)
    dense = join_columns([X, sp.csr_matrix(2 * X)])
    sparse = join_columns([sp.csr_matrix(X), sp.csr_matrix(2 * X)])
    assert isinstance(dense, np.ndarray) and isinstance(sparse, sp.csr_matrix)
    np.testing.assert_array_equal(dense, np.hstack([X, 2 * X]))
    np.testing.assert_array_equal(sparse.toarray(), dense)


def test_a_layout_that_contradicts_itself_or_its_set_is_refused() -> None:
    with pytest.raises(ConfigError, match="name each hook point once"):
        Layout(hook_names=("a", "a"), widths=(1, 2))
    with pytest.raises(ConfigError, match="must be at least 1"):
        Layout(hook_names=("a", "b"), widths=(1, 0))
    with pytest.raises(ConfigError, match="the two must agree"):
        ProbeSet(
            scorer="x",
            hook_name=HOOK,
            reads="acts",
            indicators=INDICATORS,
            probes=ridge_set().probes,
            layout=Layout(hook_names=("a", "b"), widths=(6, 6)),
        )
    with pytest.raises(ShapeError, match="length 5 for 12 joined columns"):
        Layout(hook_names=("a", "b"), widths=(6, 6)).split(np.zeros(5, dtype=np.float32))


# Calibrated probes.


@pytest.mark.parametrize("fit_map", [fit_platt, fit_isotonic])
def test_a_calibrated_probe_is_exact_after_saving_and_ranks_as_before(
    fit_map: object, tmp_path: Path
) -> None:
    rows, test = planted_rows(0), planted_rows(1)
    plain = (*fit_ridge(rows)[0][:2], *fit_boosted(rows, (4.0,))[0][2:])

    def calibrate(probe: Probe, at: int) -> CalibratedProbe:
        used = rows.labels[:, at] >= 0
        found: Calibration = fit_map(probe.score(rows.X[used]), rows.labels[used, at] == 1)  # pyright: ignore
        return CalibratedProbe(probe=probe, calibration=found)

    calibrated = tuple(calibrate(probe, at) for at, probe in enumerate(plain))
    one = ProbeSet(
        scorer="calibrated", hook_name=HOOK, reads="acts", indicators=INDICATORS, probes=calibrated
    )
    ProbeBank(sets=(one,)).save(tmp_path)
    again = ProbeBank.load(tmp_path).find("calibrated")
    scores = again.score_all(test.X)
    assert np.array_equal(scores, one.score_all(test.X))
    assert scores.min() >= 0 and scores.max() <= 1
    for at, (probe, before) in enumerate(zip(again.probes, plain, strict=True)):
        assert (probe.kind, dict(probe.settings)) == (before.kind, dict(before.settings))
        order = np.argsort(before.score(test.X))
        assert (np.diff(scores[order, at]) >= 0).all()
    assert np.array_equal(scores_of(again.probes, test.X), scores)


@dataclass(frozen=True, kw_only=True, slots=True)
class Foreign:
    """A probe that satisfies the protocol and cannot be stored."""

    kind: str
    settings: Mapping[str, float]
    width: int

    def score(self, X: Matrix) -> Float32[np.ndarray, "tok"]:
        return np.asarray(X)[:, 0].astype(np.float32)


def test_a_probe_of_a_class_that_cannot_be_stored_is_refused_when_saving(tmp_path: Path) -> None:
    foreign = Foreign(kind="foreign", settings={}, width=12)
    one = ProbeSet(scorer="x", hook_name=HOOK, reads="acts", indicators=("a",), probes=(foreign,))
    assert one.score_all(planted_rows(0).X).shape == (300, 1)
    with pytest.raises(ConfigError, match="a foreign probe cannot be stored"):
        ProbeBank(sets=(one,)).save(tmp_path)
    assert not (tmp_path / "probes.json").exists()
