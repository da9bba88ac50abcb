"""The stage that tries to explain probes and features away by their words: `falsifiers.parquet`."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mechprobe.errors import DataError
from mechprobe.falsifiers.config import FalsifierConfig
from mechprobe.falsifiers.organism_wording import organism_wording
from mechprobe.falsifiers.running import falsify_each, scorers_of
from mechprobe.falsifiers.scoring import TokenScorer
from mechprobe.falsifiers.wording import Wording, read_paraphrases
from mechprobe.probes.bank import ProbeBank
from mechprobe.records import atomic_write_bytes, digest_file
from mechprobe.study.run import Run
from mechprobe.study.stages import Stage
from mechprobe.transcripts.splits import group_names, grouped_folds
from mechprobe.transcripts.transcript import Transcript

TABLE = "falsifiers.parquet"


def falsify_stage(
    run: Run, probe_digest: str, evaluate_digest: str, config: FalsifierConfig
) -> Stage:
    """The stage that writes `falsifiers.parquet`; it goes on with the indicator at which it was cut off."""
    reading = "last" if run.config.kind == "organism" else "mean"
    config = replace(config, reading=reading)
    return Stage(
        name="falsify",
        folder=run.folder / "falsify",
        config={"falsifiers": asdict(config), **run.settings("loading")},
        inputs={
            "probes": probe_digest,
            "features": evaluate_digest,
            "model": run.model_digest,
            "paraphrases": _digest_if_there(config),
        },
        run=lambda: _falsify(run, config),
        outputs=(run.folder / TABLE,),
        partial=(run.folder / "falsify" / "parts",),
        seed=config.seed,
    )


def _falsify(run: Run, config: FalsifierConfig) -> Mapping[str, Any]:
    scorers = _scorers(run, config)
    paths = {name: run.folder / "falsify" / "parts" / f"{name}.parquet" for name in scorers}
    left = {name: own for name, own in scorers.items() if not paths[name].is_file()}
    each = falsify_each(
        run.subject,
        _tried_apart(run),
        left,
        config,
        wording=_wording(run, config),
        sae=run.sae,
        taxonomy=run.taxonomy,
    )
    for name, table in each:
        atomic_write_bytes(paths[name], table.to_parquet())
    found = pd.concat([pd.read_parquet(path) for path in paths.values()], ignore_index=True)
    found.to_parquet(run.folder / TABLE)
    counts = found["reading"].value_counts()
    return {"n_rows": len(found), **{str(name): int(n) for name, n in counts.items()}}


def _digest_if_there(config: FalsifierConfig) -> str:
    """A missing file is left to the reader, whose error says more."""
    path = Path(config.paraphrases)
    return digest_file(path) if path.is_file() else ""


def _wording(run: Run, config: FalsifierConfig) -> Wording:
    if run.config.kind == "organism":
        return organism_wording()
    given = config.paraphrases
    return Wording(paraphrases=read_paraphrases(Path(given)) if given else {})


def _scorers(run: Run, config: FalsifierConfig) -> dict[str, list[TokenScorer]]:
    """The study's probe sets of the wanted names where its SAE stands, and the best features of each indicator."""
    bank = ProbeBank.load(run.folder / "probes")
    sets = [
        one
        for one in bank.sets
        if one.scorer in config.scorers and one.hook_name == run.feature_hook
    ]
    features: dict[str, list[int]] = {}
    best: Any = pd.read_parquet(run.folder / "features.parquet")
    if config.n_features and len(best):
        chosen = best[best["rank"] <= config.n_features].sort_values("rank", kind="stable")
        for indicator, number in zip(chosen["indicator"], chosen["feature"], strict=True):
            features.setdefault(str(indicator), []).append(int(number))
    found = scorers_of(sets, features, feature_hook=run.feature_hook, sae=run.sae)
    if not found:
        raise DataError(
            f"the study has no probe set named {', '.join(config.scorers)} at {run.feature_hook} and no feature; "
            "name scorers that it fits."
        )
    return found


def _tried_apart(run: Run) -> list[Transcript]:
    """The transcripts with a split: on those of "test" no probe of the bank was fitted."""
    if run.config.kind == "organism":
        return run.transcripts
    # The bank of a study of turns is that of its first fold.
    turns = run.config.turns
    fold = grouped_folds(group_names(run.transcripts), turns.n_folds, turns.seed)
    return [
        replace(transcript, split="test" if number == 0 else "fit")
        for transcript, number in zip(run.transcripts, fold.tolist(), strict=True)
    ]
