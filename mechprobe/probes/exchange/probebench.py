"""Probes as bundles for ProbeBench (openinterp.org/probebench, spec 0.0.2), a public leaderboard of activation probes.

A bundle is a folder for one probe: `meta.json`, `probe.joblib` (anything with predict_proba), `scaler.joblib` (anything
with transform) and a README. The keys are those that its validator asks for (OpenInterpretability/cli,
openinterp/probebench.py) and those of ProbeArtifactSpec (OpenInterpretability/web, lib/probebench-types.ts). Its layer
is the index of the block whose output is read: its reference guard hooks blocks[layer]. joblib files are pickles, so the
same numbers stand beside them as `probe.safetensors` and `probe.json`, and only those are read back here.
"""

import json
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mechprobe.errors import ConfigError
from mechprobe.probes.exchange.artefact import Artefact, block_of
from mechprobe.probes.exchange.exporting import write_plain
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.records import atomic_write_bytes, atomic_write_text, digest_file
from mechprobe.taxonomy import Taxonomy

SPEC = "0.0.2"
CATEGORIES = (
    *("hallucination", "reasoning", "deception", "sandbagging"),
    *("eval_awareness", "reward_hacking", "manipulation", "refusal"),
)
LICENSES = ("Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0", "custom", "closed")
_POSITION = "token_avg"
"""The nearest of its positions to ours: every token is scored, and tokens are averaged to sentences."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """What a leaderboard asks and no bank can know.

    Raises:
        ConfigError: the category or the licence is not one that ProbeBench has.
    """

    author: str
    license: str
    """Of the probes: one of ProbeBench's names, such as "Apache-2.0"."""
    org: str = "mechprobe"
    tasks: tuple[str, ...] = ()
    """ProbeBench's task ids on which the probes are to be evaluated."""
    category: str | None = None
    """One of ProbeBench's; by default "sandbagging" for indicators of that group and "deception" for the others."""
    training_data: str = "not said"
    created_at: str = ""
    """ISO 8601."""

    def __post_init__(self) -> None:
        for value, known in ((self.license, LICENSES), (self.category, (None, *CATEGORIES))):
            if value not in known:
                raise ConfigError(
                    f"ProbeBench does not know {value!r}; it has {', '.join(filter(None, known))}."
                )


def export_probebench(
    artefact: Artefact, folder: Path, submission: Submission, taxonomy: Taxonomy
) -> list[Path]:
    """Write a bundle for each linear probe that reads the output of a block; gives the folders.

    Raises:
        ConfigError: a probe is not linear or reads something else, or the bank does not say its model.
    """
    written: list[Path] = []
    for one in artefact.bank.sets:
        block = block_of(one.hook_name)
        if block is None or one.reads != "acts" or not artefact.bank.model:
            raise ConfigError(
                f"ProbeBench takes probes on the output of a block of a named model; {one.scorer!r} reads {one.reads} at "
                f"{one.hook_name!r} of {artefact.bank.model!r}. Name the model when you import, or export this set "
                "as plain files."
            )
        for indicator in one.indicators:
            name = _slug(f"{indicator}-{one.scorer}-{artefact.bank.model}-l{block}")
            _write_bundle(artefact, one, indicator, folder / name, submission, taxonomy)
            written.append(folder / name)
    return written


def _write_bundle(
    artefact: Artefact,
    one: ProbeSet,
    indicator: str,
    target: Path,
    submission: Submission,
    taxonomy: Taxonomy,
) -> None:
    probe = one.probe(indicator)
    write_plain(artefact, one, indicator, target)
    atomic_write_bytes(target / "probe.joblib", _dumped(_classifier(probe)))
    atomic_write_bytes(target / "scaler.joblib", _dumped(_identity(probe.width)))
    meta = _meta(artefact, one, indicator, submission, taxonomy)
    meta |= {
        "id": f"{_slug(submission.org)}/{target.name}",
        "artifactSha256": digest_file(target / "probe.joblib"),
        "paramCount": probe.width + 1,
        "sizeMB": round((target / "probe.joblib").stat().st_size / 2**20, 4),
    }
    atomic_write_text(target / "meta.json", json.dumps(meta, indent=2) + "\n")
    atomic_write_text(target / "README.md", _read_me(meta, one))


def _meta(
    artefact: Artefact, one: ProbeSet, indicator: str, submission: Submission, taxonomy: Taxonomy
) -> dict[str, Any]:
    known = {entry.slug: entry for entry in taxonomy.indicators}.get(indicator)
    group = known.group if known else ""
    category = submission.category or ("sandbagging" if group == "sandbagging" else "deception")
    name = known.name if known else indicator
    metrics = artefact.card(one, indicator).metrics
    aurocs = {key: value for key, value in metrics.items() if key.split()[-1] == "auroc"}
    return {
        "spec_version": SPEC,
        "name": f"{name} ({one.scorer})",
        "shortName": name,
        "author": submission.author,
        "org": submission.org,
        "category": category,
        "probe_type": "linear",
        "probeType": "linear",
        "model": artefact.bank.model,
        "modelId": artefact.bank.model,
        "layer": block_of(one.hook_name),
        "position": _POSITION,
        "training_data": submission.training_data,
        "license": submission.license,
        "tasks": list(submission.tasks),
        "created_at": submission.created_at,
        "status": "pending_review",
        "tagline": known.definition if known else "",
        "description": (
            f"{artefact.origin}; scores every token at {one.hook_name}; predict_proba is the logistic function of the "
            "score and is calibrated only if the probe was."
        ),
        "makers_metrics": aurocs,
    }


def _classifier(probe: LinearProbe) -> LogisticRegression:
    """A fitted classifier whose decision function is the probe's score."""
    made: Any = LogisticRegression()
    made.classes_ = np.array([0, 1])
    made.coef_ = probe.weight[None, :].astype(np.float64)
    made.intercept_ = np.array([probe.bias])
    made.n_features_in_ = probe.width
    made.n_iter_ = np.array([0])
    return made


def _identity(width: int) -> StandardScaler:
    """A fitted scaler that leaves rows as they are: the probe's own scaling is folded in."""
    made: Any = StandardScaler()
    made.mean_, made.scale_, made.var_ = np.zeros(width), np.ones(width), np.ones(width)
    made.n_features_in_, made.n_samples_seen_ = width, 0
    return made


def _dumped(value: object) -> bytes:
    stream = BytesIO()
    joblib.dump(value, stream)
    return stream.getvalue()


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")


def _read_me(meta: dict[str, Any], one: ProbeSet) -> str:
    return (
        f"# {meta['name']}\n\n{meta['tagline']}\n\n"
        f"Reads {one.hook_name} (output of block {meta['layer']}) of {meta['modelId']}, width {one.width}.\n\n"
        "`probe.safetensors` and `probe.json` hold the same numbers as the joblib files; read those if you do not trust "
        "pickles. The score is activations @ weight + bias.\n"
    )
