"""Does attribution find the known feature? On organisms whose directions are known, with SAEs at the site.

python analyses/attribution.py [ORGANISM] [SAE_FOLDER]

Without a folder an SAE is trained at the planted site, or the shipped one is read. The known feature of an indicator is
the one whose decoder row has the largest cosine with the planted direction, or, where none was planted, with the
difference of means of spans that hold the thought and spans that only mention it. Since the largest cosine of all may be
that of a feature that never fires there, it is also asked for among the features that fire in at least a tenth of the
test runs. The top feature is the one of largest mean contribution by size, on test pairs, run with the thought held and
counted from the side without it.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from mechprobe.activations.capture import capture
from mechprobe.activations.selection import TokenSelection
from mechprobe.causal.attribution.agreement import check_against_patching
from mechprobe.causal.attribution.capturing import captured_rows
from mechprobe.causal.attribution.methods import METHODS, Method, attribute_outcome
from mechprobe.causal.attribution.probe_scores import attribute_score
from mechprobe.causal.attribution.runs import Runs, runs_of_cases
from mechprobe.causal.attribution.summary import mean_contributions
from mechprobe.causal.cases import Case, render_pairs
from mechprobe.causal.directions import SpanActs, fit_directions, span_acts
from mechprobe.causal.places.sites import Site
from mechprobe.models.organism.datasets import DatasetConfig, draw_pairs, draw_transcripts
from mechprobe.models.organism.truth import OrganismTruth, read_directions, read_truth
from mechprobe.models.subject import Subject
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.rows import LEFT_OUT, LabelledRows
from mechprobe.probes.solving.logistic import fit_logistic
from mechprobe.saes.checkpoints import load_sae
from mechprobe.saes.lens import Sae, decoder_rows
from mechprobe.saes.training.config import SaeConfig
from mechprobe.saes.training.runs import fit_sae, save_trained
from mechprobe.study.shipped import find_organism, shipped_folder
from mechprobe.transcripts.transcript import Transcript

DATA = DatasetConfig(
    n_fit=600, n_select=1, n_test=1, pairs_fit=1, pairs_select=1, pairs_test=10, seed=11
)
SAE = SaeConfig(architecture="batchtopk", d_sae=512, k=12, n_steps=400, batch_size=1024, seed=11)
SITE = Site(hook_name="blocks.0.hook_out", position="span_last")
OUTCOMES = ("audit", "behavior")
PROBE = "probe_score"
MIN_FIRING = 0.1
"""Share of the runs that hold a thought in which a feature fires, for it to count as one of the site."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bench:
    """A model, an SAE at the site, and the direction of each indicator there."""

    subject: Subject
    sae: Sae
    site: Site
    directions: Mapping[str, Float[Tensor, "d"]]
    probes: Mapping[str, LinearProbe]
    runs: Mapping[tuple[str, str], Runs]
    """Indicator and outcome -> test pairs, run with the thought held."""


def prepare(organism: str, sae_folder: str = "", *, data: DatasetConfig = DATA) -> Bench:
    """Load the organism, its SAE and its directions, and draw test pairs."""
    folder = find_organism(organism)
    subject, truth = Subject.load(folder), read_truth(folder)
    transcripts = [one for one in draw_transcripts(truth.roles, data) if one.split == "fit"]
    spans = span_acts(subject, transcripts, SITE)
    if truth.variant == "planted":
        known = read_directions(folder)
        directions = {name: torch.from_numpy(known[name]) for name in sorted(known)}
    else:
        fitted = fit_directions(spans, sorted(set(spans.indicator)))
        directions = {one.indicator: one.vector for one in fitted}
    shipped = shipped_folder("sae_checkpoints") / f"{organism}-sae" / SITE.hook_name
    if sae_folder or shipped.is_dir():
        sae = load_sae(sae_folder or shipped)
    else:
        sae = train_at_site(subject, transcripts, SAE)
    return Bench(
        subject=subject,
        sae=sae,
        site=SITE,
        directions=directions,
        probes=fit_probes(spans),
        runs=test_runs(subject, truth, data),
    )


def train_at_site(subject: Subject, transcripts: Sequence[Transcript], config: SaeConfig) -> Sae:
    """An SAE of the reasoning's tokens."""
    with tempfile.TemporaryDirectory() as name:
        select = TokenSelection(roles=("assistant",), sections=("reasoning",))
        store = capture(
            transcripts,
            subject,
            [SITE.hook_name],
            Path(name) / "store",
            select=select,
            dtype="float32",
        )
        save_trained(fit_sae(store, SITE.hook_name, config), Path(name) / "sae", "float32")
        return load_sae(Path(name) / "sae")


def fit_probes(spans: SpanActs) -> dict[str, LinearProbe]:
    """A logistic probe for each indicator, held against only mentioned."""
    names = sorted(set(spans.indicator))
    is_own = np.array(spans.indicator)[:, None] == np.array(names)
    present = spans.is_present.numpy().astype(np.int8)[:, None]
    labels = np.where(is_own, present, LEFT_OUT).astype(np.int8)
    rows = LabelledRows(X=spans.acts.numpy(), labels=labels, indicators=tuple(names))
    return dict(zip(names, fit_logistic(rows, [1.0])[0], strict=True))


def test_runs(
    subject: Subject, truth: OrganismTruth, data: DatasetConfig
) -> dict[tuple[str, str], Runs]:
    """The positive side of every test pair, with the negative one as its partner."""
    pairs = render_pairs(subject, [p for p in draw_pairs(truth.roles, data) if p.split == "test"])
    found: dict[tuple[str, str], Runs] = {}
    for name in sorted({pair.indicator for pair in pairs}):
        cases = [Case(pair=pair, side="positive") for pair in pairs if pair.indicator == name]
        for outcome in OUTCOMES:
            found[name, outcome] = runs_of_cases(cases, outcome, SITE.position)
    return found


def measure(bench: Bench, *, m: int = 10) -> pd.DataFrame:
    """One row for each indicator, number that is explained and method."""
    rows: list[dict[str, object]] = []
    for name, direction in bench.directions.items():
        known = known_features(bench, name, direction)
        contribution = probe_contributions(bench, name)
        row = {"indicator": name, "explains": PROBE, "method": "exact"}
        rows.append(row | _place(contribution, known))
        for outcome in OUTCOMES:
            for method in METHODS:
                rows.append(_outcome_row(bench, name, outcome, method, known, m))
    return pd.DataFrame(rows)


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """The feature that stands for an indicator, and its cosine with the direction."""

    feature: int
    cosine: float
    firing_feature: int
    """The same among the features that fire at the site."""
    firing_cosine: float


def known_features(bench: Bench, name: str, direction: Float[Tensor, "d"]) -> Known:
    """By the largest cosine of the decoder row."""
    runs, hook_name = bench.runs[name, OUTCOMES[0]], bench.site.hook_name
    acts = captured_rows(bench.subject, runs.ids, runs.positions, [hook_name])[hook_name]
    share = (bench.sae.encode(acts) > 0).float().mean(0).detach().numpy()
    cosines = _cosines(bench.sae, direction)
    firing = np.where(share >= MIN_FIRING, cosines, -np.inf)
    return Known(
        feature=int(cosines.argmax()),
        cosine=float(cosines.max()),
        firing_feature=int(firing.argmax()),
        firing_cosine=float(firing.max()),
    )


def probe_contributions(bench: Bench, name: str) -> Float[np.ndarray, "d_sae"]:
    """What each feature brings to the probe's score where the thought is held, minus where it is not."""
    runs, hook_name = bench.runs[name, OUTCOMES[0]], bench.site.hook_name
    assert runs.partner_ids is not None and runs.partner_positions is not None  # pairs
    sides = [(runs.ids, runs.positions), (runs.partner_ids, runs.partner_positions)]
    held, other = (
        mean_contributions(
            attribute_score(
                bench.probes[name],
                bench.sae,
                captured_rows(bench.subject, ids, positions, [hook_name])[hook_name],
                runs,
                hook_name,
            ),
            len(runs),
        )
        for ids, positions in sides
    )
    return held - other


def _outcome_row(
    bench: Bench, name: str, outcome: str, method: Method, known: Known, m: int
) -> dict[str, object]:
    runs, hook_name = bench.runs[name, outcome], bench.site.hook_name
    saes = {hook_name: bench.sae}
    found = attribute_outcome(bench.subject, runs, saes, method=method, n_steps=8)[hook_name]
    checked = check_against_patching(bench.subject, runs, bench.sae, found, m=m)
    patched = checked.table.iloc[:-2]
    best = int(patched["name"].iloc[int(patched["exact"].abs().to_numpy().argmax())])
    whole = checked.table.set_index("name").loc["all together"]
    place = _place(mean_contributions(found.contributions, len(runs)), known)
    return {
        "indicator": name,
        "explains": outcome,
        "method": method,
        **place,
        "top_is_exact_best": place["top"] == best,
        "exact_best_is_known": best == known.firing_feature,
        "spearman": checked.spearman,
        "sign": checked.sign_agreement,
        "spearman_top": checked.spearman_top,
        "sign_top": checked.sign_agreement_top,
        "whole_linear": float(whole["linear"]),
        "whole_exact": float(whole["exact"]),
    }


def _place(contribution: Float[np.ndarray, "d_sae"], known: Known) -> dict[str, object]:
    order = np.argsort(-np.abs(contribution), kind="stable")
    share = np.abs(contribution[order[0]]) / max(np.abs(contribution).sum(), 1e-12)
    return {
        "cosine": known.cosine,
        "firing_cosine": known.firing_cosine,
        "top": int(order[0]),
        "is_known": int(order[0]) == known.feature,
        "is_known_firing": int(order[0]) == known.firing_feature,
        "rank_of_known": int(np.flatnonzero(order == known.firing_feature)[0]) + 1,
        "top_share": float(share),
    }


def _cosines(sae: Sae, direction: Float[Tensor, "d"]) -> Float[np.ndarray, "d_sae"]:
    rows = decoder_rows(sae).detach()
    unit = rows / rows.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return einsum(unit, direction / direction.norm(), "d_sae d, d -> d_sae").numpy()


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Over indicators: how often the top feature is the known one, and how the linear picture agrees with patching."""
    found = table.groupby(["explains", "method"], sort=False)
    result = found[
        ["is_known", "is_known_firing", "top_is_exact_best", "exact_best_is_known"]
    ].sum()
    result["known_in_top_3"] = found["rank_of_known"].agg(lambda ranks: int((ranks <= 3).sum()))
    result["n"] = found.size()
    figures = ["spearman", "sign", "spearman_top", "sign_top"]
    return result.join(found[figures].mean())


def main(organism: str = "organism-planted", sae_folder: str = "") -> None:
    """Print the figures of one organism."""
    table = measure(prepare(organism, sae_folder))
    for name in ("cosine", "firing_cosine"):
        found = table.groupby("indicator")[name].first()
        print(
            f"{organism}: {name} of the known feature {found.mean():.2f} (least {found.min():.2f})"
        )
    print(summary(table).round(2).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
