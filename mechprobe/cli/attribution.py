"""`mechprobe attribute outcome | token | hooks | probe | edges`: which features carry a number, and whether to believe it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from mechprobe.causal.attribution.runs import Runs
    from mechprobe.models.subject import Subject
    from mechprobe.study.attribution import Asking, Result

Method = Literal["gradient_x_activation", "attribution_patching", "integrated_gradients"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What every sub-command takes."""

    model: tyro.conf.Positional[str]
    """A model's folder or name, or a shipped organism."""
    file: tyro.conf.Positional[Path]
    """Matched pairs (outcome, hooks) or transcripts (token, probe, edges), as .jsonl or .jsonl.zst."""
    out: Path | None = None
    """A folder for the tables."""
    unit: Literal["token", "span", "transcript"] = "transcript"
    """What the mean is over."""
    k: int = 10
    """Features that are listed."""
    m: int = 10
    """Features of largest contribution that are patched for real, and as many random ones."""
    n_boot: int = 1000
    """Draws of whole transcripts for the intervals."""
    seed: int = 0
    """Of the draws and the random features."""

    def load(self) -> "Subject":
        """The model."""
        from mechprobe.study.attribution import load_subject

        return load_subject(self.model)

    def asking(self) -> "Asking":
        """How it is asked."""
        from mechprobe.study.attribution import Asking

        return Asking(unit=self.unit, k=self.k, m=self.m, n_boot=self.n_boot, seed=self.seed)

    def show(self, result: "Result") -> None:
        """Print, and write where that was asked for."""
        print(result.text())
        if self.out is not None:
            result.write(self.out)
            print(self.out)


@dataclass(frozen=True, kw_only=True, slots=True)
class OnPairs(Asked):
    """What the sub-commands on matched pairs take."""

    outcome: str = "behavior"
    """Which outcome of the pairs."""
    position: Literal["span_first", "span_last", "span_all", "after_span", "decision"] = "span_last"
    """Which tokens are explained."""
    split: str = ""
    """Only pairs of this split."""
    side: Literal["positive", "negative"] | None = None
    """Which side is run; by default the natural one."""
    indicator: str | None = None
    """Only pairs of this indicator."""

    def runs(self, subject: "Subject") -> "Runs":
        """The pairs as runs."""
        from mechprobe.study.attribution import pair_runs

        return pair_runs(
            subject,
            self.file,
            outcome=self.outcome,
            position=self.position,
            split=self.split,
            side=self.side,
            indicator=self.indicator,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome(OnPairs):
    """Explain the logit difference of an outcome on matched pairs by SAE features."""

    saes: tuple[Path, ...]
    """Folders of SAEs, each of another hook point."""
    method: Method = "attribution_patching"
    """How; integrated gradients cost 16 passes more and add up to the whole change."""

    def run(self) -> None:
        """Explain."""
        from mechprobe.study.attribution import explain_outcome, load_saes

        saes, subject = load_saes(self.saes), self.load()
        self.show(explain_outcome(subject, self.runs(subject), saes, self.method, self.asking()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Hooks(OnPairs):
    """Explain the logit difference of an outcome on matched pairs by whole activations at hook points."""

    hook_names: tuple[str, ...] = ()
    """Hook points; by default the outputs of all blocks."""

    def run(self) -> None:
        """Explain."""
        from mechprobe.study.attribution import explain_hook_points

        subject = self.load()
        runs = self.runs(subject)
        self.show(explain_hook_points(subject, runs, self.hook_names, self.asking()))


@dataclass(frozen=True, kw_only=True, slots=True)
class OnTranscripts(Asked):
    """What the sub-commands on transcripts take."""

    tokens: Literal["spans", "reasoning"] = "spans"
    """Which tokens are explained: those of labelled spans, or all reasoning before the last answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Token(OnTranscripts):
    """Explain the logit of one token, read before the last answer of each transcript."""

    token: str
    """The token as text, with its leading space if it has one, or its number."""
    saes: tuple[Path, ...]
    """Folders of SAEs, each of another hook point."""
    method: Literal["gradient_x_activation", "integrated_gradients"] = "gradient_x_activation"
    """How; both count from the feature switched off."""

    def run(self) -> None:
        """Explain."""
        from mechprobe.study.attribution import explain_outcome, load_saes, token_runs

        saes, subject = load_saes(self.saes), self.load()
        runs = token_runs(subject, self.file, self.token, self.tokens)
        self.show(explain_outcome(subject, runs, saes, self.method, self.asking()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe(OnTranscripts):
    """Split a linear probe's score into SAE features, exactly."""

    bank: Path
    """A probe bank's folder, such as runs/organism/probes."""
    sae: Path
    """The SAE of the probe's hook point."""
    indicator: str
    """Whose probe."""
    scorer: str = "dense_logistic"
    """Which scorer of the bank."""

    def run(self) -> None:
        """Explain."""
        from mechprobe.study.attribution import explain_probe, load_saes

        [sae] = load_saes([self.sae]).values()
        result = explain_probe(
            self.load(),
            self.file,
            self.bank,
            sae,
            scorer=self.scorer,
            indicator=self.indicator,
            asked=self.tokens,
            asking=self.asking(),
        )
        self.show(result)


@dataclass(frozen=True, kw_only=True, slots=True)
class Edges(OnTranscripts):
    """Find what features at one hook point bring to features at a later one."""

    upstream: Path
    """The SAE of the earlier hook point."""
    downstream: Path
    """The SAE of the later one."""
    features: tuple[int, ...]
    """Downstream features."""

    def run(self) -> None:
        """Explain."""
        from mechprobe.saes.checkpoints import load_sae
        from mechprobe.study.attribution import explain_edges

        result = explain_edges(
            self.load(),
            self.file,
            load_sae(self.upstream),
            load_sae(self.downstream),
            self.features,
            asked=self.tokens,
            asking=self.asking(),
        )
        self.show(result)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribute:
    """Which SAE features and hook points carry a score, an outcome or a logit; checked by patching."""

    action: (
        Annotated[Outcome, tyro.conf.subcommand("outcome")]
        | Annotated[Token, tyro.conf.subcommand("token")]
        | Annotated[Hooks, tyro.conf.subcommand("hooks")]
        | Annotated[Probe, tyro.conf.subcommand("probe")]
        | Annotated[Edges, tyro.conf.subcommand("edges")]
    )

    def run(self) -> None:
        """Explain."""
        self.action.run()
