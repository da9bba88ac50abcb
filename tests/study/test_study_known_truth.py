"""What shipped organisms are known to be, asked through the tools that a user has."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from mechprobe.causal.config import CausalConfig
from mechprobe.causal.directions import fit_directions, probe_pattern, span_acts
from mechprobe.causal.places.sites import Site
from mechprobe.models.organism.datasets import DatasetConfig, draw_transcripts
from mechprobe.models.organism.truth import read_directions, read_truth
from mechprobe.models.subject import Subject
from mechprobe.study.shipped import find_organism

SCRIPT = Path(__file__).parents[2] / "analyses" / "separator.py"
QUICK = CausalConfig(
    n_random=19,
    n_replicates=0,
    n_covariance_matched=0,
    n_shuffled=0,
    n_fragility=0,
    n_dose_random=1,
    n_test_pairs=48,
    n_resampled_pairs=0,
    with_other_indicators=False,
)


@pytest.fixture(scope="module")
def separator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("separator", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_probe_at_the_separator_reads_every_thought_and_no_verdict_is_given_there(separator):
    data = DatasetConfig(n_fit=700, n_select=1, n_test=400, seed=3)
    asked = ("strategic_omission",)
    found = separator.check_separator("organism-natural", 1, asked=asked, data=data, config=QUICK)
    assert len(found.auroc) == 18
    assert np.mean(list(found.auroc.values())) > 0.9
    assert set(found.verdicts["indicator"]) == set(asked)
    assert set(found.verdicts["verdict"]) == {"invalid"}
    assert found.verdicts["reason"].str.startswith("refused").all()
    assert set(found.verdicts["direction"]) == {"diff_of_means", "pattern", "weight"}


def test_dense_probes_at_the_planted_site_lie_along_the_planted_directions(separator):
    folder = find_organism("organism-planted")
    truth, planted = read_truth(folder), read_directions(folder)
    subject = Subject.load(folder)
    data = DatasetConfig(n_fit=700, n_select=1, n_test=1, seed=3)
    fit = [one for one in draw_transcripts(truth.roles, data) if one.split == "fit"]
    spans = span_acts(subject, fit, Site(hook_name=truth.hook_name, position=truth.position))
    probes = separator.fit_probes(spans)
    weights = {name: torch.from_numpy(probe.weight) for name, probe in probes.items()}
    found = {
        "means": {one.indicator: one.vector for one in fit_directions(spans, list(probes))},
        "pattern": {
            name: probe_pattern(spans, indicator=name, name="pattern", weight=weight).vector
            for name, weight in weights.items()
        },
        "weight": {name: weight / weight.norm() for name, weight in weights.items()},
    }
    for kind, vectors in found.items():
        cosines = [float(vectors[name] @ torch.as_tensor(planted[name])) for name in vectors]
        assert len(cosines) == 18
        assert np.mean(cosines) >= 0.9, kind
        assert min(cosines) >= 0.75, kind
