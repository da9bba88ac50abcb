"""`mechprobe <command>`: reads the command line and runs what was typed.

Exit codes: 0 done, 1 a mistake that one line explains, 130 stopped by the user. Everything heavy is imported by the
command that needs it, so that `mechprobe --help` answers at once.
"""

import os
import sys
from typing import Annotated, Any

# Spinning OpenMP threads cost 8-17x on busy machines; both must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("WANDB_MODE", "disabled")

import tyro

from mechprobe.cli.attribution import Attribute
from mechprobe.cli.banks import Bank
from mechprobe.cli.evaluating import Evaluate
from mechprobe.cli.features import Features
from mechprobe.cli.importing import Import
from mechprobe.cli.organisms import Organism
from mechprobe.cli.saes import Sae, study_named
from mechprobe.cli.saying import say
from mechprobe.cli.stores import Store
from mechprobe.cli.studies import Capture, Causal, Falsify, Probe, Report, Steer, Study
from mechprobe.errors import MechprobeError

Command = (
    Annotated[Study, tyro.conf.subcommand("study")]
    | Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[Capture, tyro.conf.subcommand("capture")]
    | Annotated[Sae, tyro.conf.subcommand("sae")]
    | Annotated[Probe, tyro.conf.subcommand("probe")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Falsify, tyro.conf.subcommand("falsify")]
    | Annotated[Causal, tyro.conf.subcommand("causal")]
    | Annotated[Steer, tyro.conf.subcommand("steer")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Features, tyro.conf.subcommand("features")]
    | Annotated[Attribute, tyro.conf.subcommand("attribute")]
    | Annotated[Bank, tyro.conf.subcommand("bank")]
    | Annotated[Store, tyro.conf.subcommand("store")]
    | Annotated[Organism, tyro.conf.subcommand("organism")]
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command that was typed."""
    command: Any = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="mechprobe",
        description="Which internal directions of a language model go with misaligned reasoning, and which drive it.",
        args=study_named(sys.argv[1:] if arguments is None else arguments),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    try:
        command.run()
    except MechprobeError as error:
        print(f"mechprobe: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        say("stopped; the same command goes on where it was")
        sys.exit(130)


if __name__ == "__main__":
    main()
