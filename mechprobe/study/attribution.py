"""`mechprobe attribute`: contributions of SAE features on files of pairs or transcripts, with the check beside them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mechprobe.causal.attribution.agreement import check_against_patching
from mechprobe.causal.attribution.capturing import captured_rows
from mechprobe.causal.attribution.edges import SaeAt, feature_edges
from mechprobe.causal.attribution.hook_points import attribute_hook_points
from mechprobe.causal.attribution.methods import Method, attribute_outcome
from mechprobe.causal.attribution.probe_scores import attribute_score, shap_gap
from mechprobe.causal.attribution.readouts import token_logit
from mechprobe.causal.attribution.runs import (
    Asked,
    Runs,
    runs_of_cases,
    runs_of_transcripts,
    tokens_of_transcripts,
)
from mechprobe.causal.attribution.summary import Unit, summarise
from mechprobe.causal.cases import Case, natural_cases, render_pairs
from mechprobe.causal.places.sites import Position
from mechprobe.errors import CheckpointError, ConfigError, DataError
from mechprobe.models.subject import Subject
from mechprobe.probes.bank import ProbeBank
from mechprobe.records import atomic_write_text
from mechprobe.saes.checkpoints import check_fits, load_sae
from mechprobe.saes.lens import Sae
from mechprobe.study.shipped import find_model, find_organism, shipped_folder
from mechprobe.transcripts.jsonl import read_transcripts
from mechprobe.transcripts.pairs import Side, read_pairs

TABLE, CHECK, FIGURES = "attribution.parquet", "attribution_check.parquet", "attribution.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """What is asked of every explained number."""

    unit: Unit = "transcript"
    """What the mean is over: tokens, spans, or whole transcripts."""
    k: int = 10
    """Features that are listed."""
    m: int = 10
    """Features of largest contribution that are patched for real, and as many random ones."""
    n_boot: int = 1000
    """Draws of whole transcripts for the intervals."""
    seed: int = 0
    """Of the draws and the random features."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Result:
    """Tables of an attribution, and the lines that tell how far to believe them."""

    table: pd.DataFrame
    check: pd.DataFrame
    lines: tuple[str, ...]

    def text(self) -> str:
        """All of it for a terminal."""
        parts = [self.table.to_string(index=False, float_format=lambda v: f"{v:.4g}")]
        if len(self.check):
            parts.append(self.check.to_string(index=False, float_format=lambda v: f"{v:.4g}"))
        return "\n\n".join([*parts, "\n".join(self.lines)])

    def write(self, out: Path) -> None:
        """Write the tables as parquet and the lines as JSON."""
        out.mkdir(parents=True, exist_ok=True)
        self.table.to_parquet(out / TABLE)
        self.check.to_parquet(out / CHECK)
        atomic_write_text(out / FIGURES, json.dumps({"lines": self.lines}, indent=2) + "\n")


def load_subject(model: str) -> Subject:
    """A model by folder, by hub name, or a shipped organism by name."""
    is_shipped = (shipped_folder("sae_checkpoints") / model).is_dir()
    return Subject.load(find_organism(model) if is_shipped else find_model(model))


def load_saes(folders: Sequence[Path]) -> dict[str, Sae]:
    """SAEs by the hook point that their files name.

    Raises:
        CheckpointError: one names none, or two name the same.
        ConfigError: none is given.
    """
    found: dict[str, Sae] = {}
    for folder in folders:
        sae = load_sae(folder)
        name = sae.cfg.metadata.hook_name
        if not name or name in found:
            raise CheckpointError(
                f"the SAE in {folder} names hook point {name!r}, which is none or that of another; give one SAE of "
                "each hook point."
            )
        found[name] = sae
    if not found:
        raise ConfigError("no SAE was given; name the folder of at least one.")
    return found


def pair_runs(
    subject: Subject,
    pairs: Path,
    *,
    outcome: str,
    position: Position,
    split: str = "",
    side: Side | None = None,
    indicator: str | None = None,
) -> Runs:
    """Matched pairs of a file as runs; `side` None takes the natural one of each.

    Raises:
        DataError: no pair is left.
    """
    found = [
        pair
        for pair in read_pairs(pairs)
        if split in ("", pair.split) and indicator in (None, pair.indicator)
    ]
    if not found:
        raise DataError(
            f"{pairs} has no pair of split {split!r} and indicator {indicator!r}; leave out a filter."
        )
    rendered = render_pairs(subject, found)
    cases = natural_cases(rendered) if side is None else [Case(pair=p, side=side) for p in rendered]
    return runs_of_cases(cases, outcome, position)


def token_runs(subject: Subject, transcripts: Path, token: str, asked: Asked) -> Runs:
    """Transcripts of a file, read at one token's logit before the last answer."""
    readout = token_logit(subject, int(token) if token.isdecimal() else token)
    return runs_of_transcripts(subject, list(read_transcripts(transcripts)), readout, asked)


def explain_outcome(
    subject: Subject, runs: Runs, saes: dict[str, Sae], method: Method, asking: Asking
) -> Result:
    """The features that carry what the runs read, at each SAE's hook point."""
    tables: list[pd.DataFrame] = []
    checks: list[pd.DataFrame] = []
    lines: list[str] = []
    for name, found in attribute_outcome(subject, runs, saes, method=method).items():
        table = summarise(
            found.contributions,
            runs,
            unit=asking.unit,
            k=asking.k,
            n_boot=asking.n_boot,
            seed=asking.seed,
        )
        checked = check_against_patching(
            subject, runs, saes[name], found, m=asking.m, seed=asking.seed
        )
        about = {"hook_name": name, "explains": runs.readout.name, "method": method}
        tables.append(table.assign(**about))
        checks.append(checked.table.assign(**about))
        whole = checked.table.iloc[-1]
        lines.append(
            f"{name}, {runs.readout.name}, {method} from {found.contributions.reference}: {checked.line()}; all together "
            f"{float(whole['linear']):+.3f} against {float(whole['exact']):+.3f} when it is done"
        )
    return Result(
        table=pd.concat(tables, ignore_index=True),
        check=pd.concat(checks, ignore_index=True),
        lines=tuple(lines),
    )


def explain_hook_points(
    subject: Subject, runs: Runs, hook_names: Sequence[str], asking: Asking
) -> Result:
    """The hook points that carry what the runs read; none named: the outputs of all blocks."""
    names = hook_names or [f"blocks.{layer}.hook_out" for layer in range(subject.n_layers)]
    found = attribute_hook_points(subject, runs, names, n_boot=asking.n_boot, seed=asking.seed)
    return Result(table=found.table, check=pd.DataFrame(), lines=(found.line(),))


def explain_probe(
    subject: Subject,
    transcripts: Path,
    bank: Path,
    sae: Sae,
    *,
    scorer: str,
    indicator: str,
    asked: Asked,
    asking: Asking,
) -> Result:
    """The features that carry a linear probe's score; exact, so that nothing needs patching.

    Raises:
        ConfigError: there is no such probe, it is not linear, or reads something else than activations.
    """
    hook_name = subject.resolve(sae.cfg.metadata.hook_name)
    check_fits(sae, subject.width(hook_name), hook_name, resolve=subject.resolve)
    found = ProbeBank.load(bank).find(scorer, hook_name)
    probe = found.probe(indicator)
    if found.reads != "acts":
        raise ConfigError(
            f"scorer {scorer!r} reads {found.reads}; a score is split for probes of activations, such as dense_logistic."
        )
    tokens = tokens_of_transcripts(subject, list(read_transcripts(transcripts)), asked)
    acts = captured_rows(subject, tokens.ids, tokens.positions, [hook_name])[hook_name]
    parts = attribute_score(probe, sae, acts, tokens, hook_name)
    scores = probe.score(acts.numpy())
    table = summarise(
        parts, tokens, unit=asking.unit, k=asking.k, n_boot=asking.n_boot, seed=asking.seed
    )
    about = {"hook_name": hook_name, "explains": f"{scorer} {indicator}", "method": parts.method}
    lines = (
        f"{len(acts)} tokens: parts and score differ by at most {abs(parts.total - scores).max():.2g}; contribution "
        f"minus its mean and the linear SHAP value by at most {shap_gap(probe, sae, acts, acts):.2g}",
    )
    return Result(table=table.assign(**about), check=pd.DataFrame(), lines=lines)


def explain_edges(
    subject: Subject,
    transcripts: Path,
    upstream: Sae,
    downstream: Sae,
    features: Sequence[int],
    *,
    asked: Asked,
    asking: Asking,
) -> Result:
    """Edges between the features of two SAEs."""
    tokens = tokens_of_transcripts(subject, list(read_transcripts(transcripts)), asked)
    ends = [SaeAt(hook_name=sae.cfg.metadata.hook_name, sae=sae) for sae in (upstream, downstream)]
    found = feature_edges(subject, tokens, ends[0], ends[1], features, m=asking.m, seed=asking.seed)
    return Result(table=found.table, check=pd.DataFrame(), lines=(found.line(),))
