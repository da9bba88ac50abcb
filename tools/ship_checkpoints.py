"""Make what is shipped in sae_checkpoints/: organisms (unless they are there), an SAE after each block of the natural one,
the manifest.

python tools/ship_checkpoints.py            # about twenty minutes on two cores, most of it the organisms
"""

import tempfile
from pathlib import Path

from mechprobe.activations.capture import capture
from mechprobe.activations.selection import TokenSelection
from mechprobe.models.organism.datasets import DatasetConfig, draw_transcripts
from mechprobe.models.organism.training import OrganismConfig
from mechprobe.models.organism.truth import Variant, read_truth
from mechprobe.models.subject import Subject
from mechprobe.saes.checkpoints import load_sae, save_sae
from mechprobe.saes.manifest import describe_checkpoint, write_manifest
from mechprobe.saes.training.config import SaeConfig
from mechprobe.saes.training.runs import train_sae
from mechprobe.study.organism import make_organism

ROOT = Path(__file__).resolve().parents[1] / "sae_checkpoints"
ORGANISM = "organism-natural"
VARIANTS: tuple[Variant, ...] = ("null", "planted", "obfuscated")
SEED = 0
SAE = SaeConfig(d_sae=512, k=12, n_steps=600, dtype="float16", seed=SEED)
N_TRANSCRIPTS = 3000
COMMAND = "python tools/ship_checkpoints.py"


def main() -> None:
    """Make whatever is missing, and write the manifest anew."""
    folder = ROOT / ORGANISM
    if not (folder / "truth.json").is_file():
        make_organism(OrganismConfig(seed=SEED), folder)
    names = [ORGANISM]
    for variant in VARIANTS:
        name = f"organism-{variant}"
        if not (ROOT / name / "truth.json").is_file():
            make_organism(OrganismConfig(seed=SEED), ROOT / name, variant=variant, base=folder)
        names.append(name)
    subject = Subject.load(folder)
    hook_names = [f"blocks.{layer}.hook_out" for layer in range(subject.n_layers)]
    roles = read_truth(folder).roles
    config = DatasetConfig(n_fit=N_TRANSCRIPTS, n_select=1, n_test=1, seed=SEED + 77)
    transcripts = [t for t in draw_transcripts(roles, config) if t.split == "fit"]
    with tempfile.TemporaryDirectory() as scratch:
        store = capture(
            transcripts,
            subject,
            hook_names,
            Path(scratch) / "store",
            select=TokenSelection(sections=("reasoning", "answer")),
            dtype="float32",
        )
        for hook_name in hook_names:
            name = f"{ORGANISM}-sae/{hook_name}"
            made = train_sae(store, hook_name, SAE, Path(scratch) / hook_name)
            save_sae(load_sae(made), ROOT / name, dtype="float16")
            names.append(name)
    write_manifest(ROOT, [describe_checkpoint(ROOT, name, command=COMMAND) for name in names])


if __name__ == "__main__":
    main()
