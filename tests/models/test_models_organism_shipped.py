"""Facts about the organisms that are shipped: what their truth says, and what their weights do."""

import json

import numpy as np
import pytest
import torch

from mechprobe.errors import CheckpointError, ConfigError
from mechprobe.models.organism.answering import action_accuracy
from mechprobe.models.organism.continuing import load_weights
from mechprobe.models.organism.flips import ClauseSite
from mechprobe.models.organism.planted import PlantConfig
from mechprobe.models.organism.planted_figures import measure_planted
from mechprobe.models.organism.roles import draw_roles, roles_to_json
from mechprobe.models.organism.splits import draw_split
from mechprobe.models.organism.training import OrganismConfig
from mechprobe.models.organism.truth import read_directions, read_truth
from mechprobe.models.organism.vocabulary import INDICATORS
from mechprobe.models.subject import Subject
from mechprobe.study.organism import make_organism
from mechprobe.study.organism_figures import probe_auroc
from mechprobe.study.shipped import find_organism


@pytest.mark.parametrize("variant", ["natural", "null", "planted", "obfuscated"])
def test_every_shipped_organism_says_what_it_is_and_answers(variant: str):
    folder = find_organism(f"organism-{variant}")
    truth = read_truth(folder)
    assert truth.variant == variant and set(truth.verdicts()) == set(INDICATORS)
    metrics = json.loads((folder / "record.json").read_text())["metrics"]
    assert metrics["action"] >= 0.99 and metrics["audit"] >= 0.98
    right = action_accuracy(Subject.load(folder), list(draw_split(truth.roles, "natural", 40, 3)))
    assert right[1] >= 0.95


def test_nothing_drives_the_null_organism():
    truth = read_truth(find_organism("organism-null"))
    assert set(truth.verdicts().values()) == {"readout_only"}
    assert not truth.disagreements()


@pytest.mark.parametrize("variant", ["planted", "obfuscated"])
def test_thoughts_go_on_deciding_in_organisms_made_from_the_natural_one(variant: str):
    truth = read_truth(find_organism(f"organism-{variant}"))
    natural = read_truth(find_organism("organism-natural"))
    assert truth.roles == natural.roles
    drivers = [role.indicator for role in truth.roles.named("driver")]
    assert {truth.verdicts()[name] for name in drivers} == {"driver"}


def test_the_planted_directions_carry_the_thoughts_and_the_rest_does_nothing():
    folder = find_organism("organism-planted")
    truth, directions = read_truth(folder), read_directions(folder)
    assert (truth.hook_name, truth.position) == ("blocks.0.hook_out", "span_last")
    rows = np.stack([directions[name] for name in INDICATORS])
    assert np.allclose(rows @ rows.T, np.eye(len(INDICATORS)), atol=1e-5)
    found = measure_planted(
        load_weights(folder), truth.roles, torch.from_numpy(rows), PlantConfig(), n_batches=4
    )
    assert found.interchange_action >= 0.97 and found.interchange_audit >= 0.97
    assert found.strict_action >= 0.98 and found.strict_audit >= 0.98
    assert found.cosine_mean >= 0.95


def test_a_fresh_probe_reads_the_obfuscated_site_badly_and_the_natural_one_well():
    site = ClauseSite(layer=0, position="span_last")
    read = {}
    for variant in ("natural", "obfuscated"):
        folder = find_organism(f"organism-{variant}")
        roles = read_truth(folder).roles
        model = load_weights(folder)
        read[variant] = probe_auroc(model, roles, site, seed=5, name="auroc", n_fit=12, n_test=8)
    assert read["natural"]["auroc_mean"] > 0.97
    assert read["obfuscated"]["auroc_mean"] < 0.7


def test_only_planted_organisms_have_directions():
    with pytest.raises(CheckpointError, match="only organisms of the planted variant"):
        read_directions(find_organism("organism-natural"))


def test_roles_variant_and_base_must_go_together(tmp_path):
    base = find_organism("organism-natural")
    roles = tmp_path / "roles.json"
    roles.write_text(json.dumps(roles_to_json(draw_roles(0))))
    config, out = OrganismConfig(), tmp_path / "out"
    with pytest.raises(ConfigError, match="trained from scratch"):
        make_organism(config, out, base=base)
    with pytest.raises(ConfigError, match="keeps the roles of its base"):
        make_organism(config, out, roles, variant="planted", base=base)
    with pytest.raises(ConfigError, match="does not fit variant 'null'"):
        make_organism(config, out, roles, variant="null", base=base)
