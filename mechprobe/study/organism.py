"""Make an organism: train it, measure what its thoughts really do, and keep both beside each other."""

from dataclasses import asdict, dataclass
from pathlib import Path

from mechprobe.causal.oracle import measure_thoughts
from mechprobe.errors import ConfigError
from mechprobe.models.organism.datasets import DatasetConfig, draw_pairs
from mechprobe.models.organism.roles import RoleTable, draw_roles, read_roles, roles_to_json
from mechprobe.models.organism.training import OrganismConfig, train_organism
from mechprobe.models.organism.truth import OrganismTruth, read_truth, write_truth
from mechprobe.models.subject import Subject
from mechprobe.records import make_record, write_record
from mechprobe.transcripts.pairs import MatchedPair

ORACLE_SEED = 90_001
"""Its pairs are none that a study of the organism draws by default."""
ORACLE_PAIRS = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class OrganismSummary:
    """What came of a training run."""

    folder: Path
    action_accuracy: float
    audit_accuracy: float
    disagreements: tuple[str, ...]
    """Indicators that do something else than their role plans."""


def make_organism(config: OrganismConfig, out: Path, roles: Path | None = None) -> OrganismSummary:
    """Train an organism in `out`, with `truth.json` and its record.

    Args:
        roles: a role file; without one the roles are drawn from the seed.

    Raises:
        ConfigError: `out` holds something already.
        ModelError: the trained model misses the accuracy bar.
    """
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; give a new folder, nothing there is overwritten.")
    table = draw_roles(config.seed) if roles is None else read_roles(roles)
    reached = train_organism(table, config, out)
    truth = measure_truth(out, table)
    write_truth(out, truth)
    metrics = {**asdict(reached), "disagreements": truth.disagreements()}
    record = make_record(
        "organism",
        {**asdict(config), "roles": roles_to_json(table), "oracle_pairs": ORACLE_PAIRS},
        seed=config.seed,
        metrics=metrics,
    )
    write_record(out, record)
    return OrganismSummary(
        folder=out,
        action_accuracy=reached.action,
        audit_accuracy=reached.audit,
        disagreements=tuple(truth.disagreements()),
    )


def measure_truth(folder: Path, roles: RoleTable) -> OrganismTruth:
    """Flip every thought in the text of many pairs and see what the trained model does."""
    subject = Subject.load(folder)
    config = DatasetConfig(pairs_fit=1, pairs_select=1, pairs_test=ORACLE_PAIRS, seed=ORACLE_SEED)
    pairs: list[MatchedPair] = [p for p in draw_pairs(roles, config) if p.split == "test"]
    measured = measure_thoughts(subject, pairs, seed=ORACLE_SEED)
    return OrganismTruth(roles=roles, measured=tuple(measured))


def describe_organism(folder: Path) -> list[str]:
    """Lines that tell each indicator's role and what it was measured to do."""
    truth = read_truth(folder)
    planned = truth.role_names()
    lines = [
        f"{'indicator':<42}{'role':<13}{'measured verdict':<18}need  suff  rel   inh   resampled"
    ]
    for found in truth.measured:
        values = (found.necessity, found.sufficiency, found.release, found.inhibition)
        numbers = "  ".join("  - " if value is None else f"{value:+.1f}"[:4] for value in values)
        resampled = "" if found.resampled is None else f"{found.resampled:+.2f}"
        role = planned[found.indicator]
        lines.append(f"{found.indicator:<42}{role:<13}{found.verdict:<18}{numbers}  {resampled}")
    return lines
