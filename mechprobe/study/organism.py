"""Make an organism: train it, measure what its thoughts really do, and keep both beside each other."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mechprobe.causal.oracle import measure_thoughts
from mechprobe.errors import ConfigError
from mechprobe.models.organism.answering import action_accuracy
from mechprobe.models.organism.continuing import load_weights
from mechprobe.models.organism.datasets import DatasetConfig, draw_pairs
from mechprobe.models.organism.roles import (
    RoleTable,
    draw_null_roles,
    draw_roles,
    read_roles,
    roles_to_json,
)
from mechprobe.models.organism.splits import SPLITS, draw_split
from mechprobe.models.organism.training import (
    OrganismConfig,
    checked_accuracy,
    save_organism,
    train_model,
)
from mechprobe.models.organism.truth import (
    OrganismTruth,
    Variant,
    read_truth,
    write_directions,
    write_truth,
)
from mechprobe.models.subject import Subject
from mechprobe.records import digest_tree, make_record, write_record
from mechprobe.study.organism_variants import continue_as
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
    figures: Mapping[str, float]
    """What was measured of the planting or of the evasion."""


def make_organism(
    config: OrganismConfig,
    out: Path,
    roles: Path | None = None,
    *,
    variant: Variant = "natural",
    base: Path | None = None,
) -> OrganismSummary:
    """Train an organism in `out`, with `truth.json` and its record.

    Args:
        roles: a role file; without one the roles are drawn from the seed.
        variant: natural, or what a natural one is trained further to be.
        base: a natural organism to train further; without one it is trained first.

    Raises:
        ConfigError: `out` holds something already, or the role table, the variant and the base do not go together.
        ModelError: the trained model misses the accuracy bar.
    """
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; give a new folder, nothing there is overwritten.")
    table, first = _role_tables(config.seed, roles, variant, base)
    model = train_model(first, config) if base is None else load_weights(base)
    made = continue_as(variant, model, table, config.seed)
    reached = checked_accuracy(model, table, config.seed)
    save_organism(model, out)
    if made.directions is not None:
        write_directions(out, made.directions)
    truth = replace(
        measure_truth(out, table),
        variant=variant,
        hook_name=made.site.hook_name if made.site else "",
        position=made.site.position if made.site else "",
        figures=made.figures,
    )
    write_truth(out, truth)
    settings = {**asdict(config), "roles": roles_to_json(table), "oracle_pairs": ORACLE_PAIRS}
    if variant != "natural":
        settings |= {"variant": variant, **made.settings}
    record = make_record(
        "organism",
        settings,
        seed=config.seed,
        metrics={**asdict(reached), **made.figures, "disagreements": truth.disagreements()},
        inputs={} if base is None else {"base": digest_tree(base)},
    )
    write_record(out, record)
    return OrganismSummary(
        folder=out,
        action_accuracy=reached.action,
        audit_accuracy=reached.audit,
        disagreements=tuple(truth.disagreements()),
        figures=made.figures,
    )


def _role_tables(
    seed: int, roles: Path | None, variant: Variant, base: Path | None
) -> tuple[RoleTable, RoleTable]:
    """The organism's roles, and those of the natural organism that it is made from."""
    given = None if roles is None else read_roles(roles)
    if base is not None and variant == "natural":
        raise ConfigError("a natural organism is trained from scratch; leave out the base.")
    if base is not None and given is not None and variant != "null":
        raise ConfigError(
            f"a {variant} organism keeps the roles of its base; leave out the role file or the base."
        )
    if given is not None and given.is_null != (variant == "null"):
        raise ConfigError(
            f"{roles} {'lets no thought decide' if given.is_null else 'lets thoughts decide'}, which does not fit "
            f"variant {variant!r}: a null organism has only read-outs, every other has some cause."
        )
    if variant == "null":
        return given or draw_null_roles(seed), draw_roles(seed)
    table = given or (draw_roles(seed) if base is None else read_truth(base).roles)
    return table, table


def measure_truth(folder: Path, roles: RoleTable) -> OrganismTruth:
    """Flip every thought in the text of many pairs and see what the trained model does."""
    subject = Subject.load(folder)
    config = DatasetConfig(pairs_fit=1, pairs_select=1, pairs_test=ORACLE_PAIRS, seed=ORACLE_SEED)
    pairs: list[MatchedPair] = [p for p in draw_pairs(roles, config) if p.split == "test"]
    measured = measure_thoughts(subject, pairs, seed=ORACLE_SEED)
    return OrganismTruth(roles=roles, measured=tuple(measured))


def measure_splits(folder: Path, n: int, *, seed: int = 0) -> dict[str, dict[int, float]]:
    """Split -> turn -> share of actions that the organism gets right, on `n` transcripts of each split."""
    subject, roles = Subject.load(folder), read_truth(folder).roles
    return {
        name: action_accuracy(subject, list(draw_split(roles, name, n, seed))) for name in SPLITS
    }


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
