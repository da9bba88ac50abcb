"""The stages in their order, and how far to go."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from mechprobe.records import atomic_write_text
from mechprobe.study.causes import causal_stage, sites_stage
from mechprobe.study.config import StudyConfig
from mechprobe.study.detection import evaluate_stage, probe_stage
from mechprobe.study.explain import explain_stage
from mechprobe.study.falsify import falsify_stage
from mechprobe.study.generalisation import generalise_stage
from mechprobe.study.reading import capture_stage, sae_stage
from mechprobe.study.run import Run
from mechprobe.study.sources import import_stage
from mechprobe.study.stages import ensure_stage
from mechprobe.study.steering import steering_stage
from mechprobe.study.untrained import untrained_stage

StageName = Literal[
    "import",
    "capture",
    "sites",
    "sae",
    "probe",
    "evaluate",
    "explain",
    "falsify",
    "generalise",
    "causal",
    "steer",
    "untrained",
    "report",
]
STAGES: tuple[StageName, ...] = get_args(StageName)


def run_study(
    config: StudyConfig,
    say: Callable[[str], None],
    *,
    until: StageName = "report",
    study_text: str = "",
) -> Path:
    """Run a study up to a stage, skipping what is up to date; return the report's path, or the folder.

    Args:
        study_text: the study file, kept in the run's folder.

    Raises:
        MechprobeError: a stage cannot be done; earlier stages keep their results.
    """
    run = Run(config=config, say=say)
    config.out.mkdir(parents=True, exist_ok=True)
    if study_text:
        atomic_write_text(config.out / "study.toml", study_text)
    last = STAGES.index(until)
    digests: dict[StageName, str] = {}
    for name in STAGES[: last + 1]:
        if name in ("sites", "causal", "steer", "untrained") and config.kind != "organism":
            continue
        if name == "report":
            return _write_report(run)
        digests[name] = _ensure(run, name, digests)
    return config.out


def _ensure(run: Run, name: StageName, digests: dict[StageName, str]) -> str:
    match name:
        case "import":
            stage = import_stage(run)
        case "capture":
            stage = capture_stage(run, digests["import"])
        case "sites":
            stage = sites_stage(run, digests["import"])
        case "sae":
            stage = sae_stage(run, digests["capture"])
        case "probe":
            stage = probe_stage(run, digests["sae"])
        case "evaluate":
            stage = evaluate_stage(run, digests["probe"])
        case "explain":
            stage = explain_stage(run, digests["probe"], digests["sae"])
        case "falsify":
            stage = falsify_stage(run, digests["probe"], digests["evaluate"], run.config.falsifiers)
        case "generalise":
            stage = generalise_stage(run, digests["sae"])
        case "steer":
            stage = steering_stage(run, digests["sites"])
        case "untrained":
            stage = untrained_stage(run, digests["sites"], digests["sae"])
        case _:
            stage = causal_stage(run, digests["sites"], digests["evaluate"])
    return ensure_stage(stage, run.say)


def _write_report(run: Run) -> Path:
    from mechprobe.reports.report import write_report

    run.say("report: writing")
    return write_report(run.folder)
