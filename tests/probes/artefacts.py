"""Banks of other people's probes for tests, and when two are the same."""

import numpy as np

from mechprobe.probes.bank import ProbeBank
from mechprobe.probes.exchange.artefact import Artefact, ProbeCard, key_of
from mechprobe.probes.exchange.importing import Wanted
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.solving.standardise import Scaling
from mechprobe.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy()


D = 6


HERE = Wanted(hook_name="blocks.3.hook_resid_post", model="m", indicators=("Fabrication",))


def labelled(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, size=200)
    X = rng.normal(size=(200, D)) * [1, 5, 0.1, 1, 1, 30] + 10
    X[:, 0] += y
    return X, y


def artefact(seed: int = 0) -> Artefact:
    """Two sets with cards, scalings and awkward numbers."""
    rng = np.random.default_rng(seed)
    names = ("observer_suspicion_modeling", "error_calibration")
    sets = tuple(
        ProbeSet(
            scorer="dense",
            hook_name=f"blocks.{block}.hook_out",
            reads="acts",
            indicators=names,
            probes=tuple(
                LinearProbe(
                    kind="logistic",
                    weight=rng.normal(size=D).astype(np.float32) * np.float32(1e-20),
                    bias=float(rng.normal()) / 3,
                    settings={"l2_strength": 0.1},
                )
                for _ in names
            ),
        )
        for block in (2, 11)
    )
    return Artefact(
        bank=ProbeBank(sets=sets, model="org/a-model"),
        origin="a test",
        model_digest="feed",
        cards={
            key_of(one, name): ProbeCard(
                source="x.pt",
                digest="ab",
                thresholds={"fpr 1%": 1 / 3},
                metrics={"auroc": 0.1 + 0.2},
            )
            for one in sets
            for name in names
        },
        scalings={
            key_of(one): tuple(
                Scaling(mean=rng.normal(size=D), factor=rng.uniform(1, 2, D)) for _ in names
            )
            for one in sets
        },
    )


def assert_same(first: Artefact, second: Artefact) -> None:
    assert second.bank.model == first.bank.model
    assert (second.model_digest, second.origin) == (first.model_digest, first.origin)
    assert len(second.bank.sets) == len(first.bank.sets)
    for one in first.bank.sets:
        other = second.bank.find(one.scorer, one.hook_name)
        assert (other.indicators, other.reads) == (one.indicators, one.reads)
        for name, probe, again in zip(one.indicators, one.probes, other.probes, strict=True):
            assert isinstance(probe, LinearProbe) and isinstance(again, LinearProbe)
            assert again.weight.dtype == np.float32
            assert np.array_equal(again.weight, probe.weight) and again.bias == probe.bias
            assert (again.kind, dict(again.settings)) == (probe.kind, dict(probe.settings))
            assert second.card(other, name) == first.card(one, name)
        scalings = zip(first.scalings[key_of(one)], second.scalings[key_of(other)], strict=True)
        for scaling, kept in scalings:
            assert np.array_equal(kept.mean, scaling.mean)
            assert np.array_equal(kept.factor, scaling.factor)
