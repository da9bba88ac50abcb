"""The neutral set of a study of transcripts: imported, captured and encoded as the tested transcripts are."""

from pathlib import Path

from mechprobe.errors import DataError
from mechprobe.evaluation.folds import TokenSource
from mechprobe.evaluation.turns.neutral_turns import NeutralSet
from mechprobe.records import digest_file, digest_tree
from mechprobe.saes.encoding import encode_store
from mechprobe.study.reading import capture_into
from mechprobe.study.run import Run
from mechprobe.transcripts.importing import import_transcripts
from mechprobe.transcripts.jsonl import read_transcripts


def neutral_folder(run: Run) -> Path:
    """Where the neutral set's transcripts, store and features lie."""
    return run.folder / "neutral"


def neutral_digest(run: Run) -> str:
    """Digest of the file or folder that is named; empty where none is, or it is missing: its reader's error says more."""
    source = Path(run.config.turns.neutral)
    if not run.config.turns.neutral or not source.exists():
        return ""
    return digest_tree(source) if source.is_dir() else digest_file(source)


def read_neutral_set(run: Run) -> NeutralSet | None:
    """The study's neutral set, captured with the settings of its transcripts; None where it names none.

    Raises:
        DataError: nothing can be read there, or every transcript is excluded.
    """
    if not run.config.turns.neutral:
        return None
    folder, hook_name = neutral_folder(run), run.feature_hook
    report = import_transcripts(Path(run.config.turns.neutral), folder, taxonomy=run.taxonomy)
    run.say(f"neutral set: {report}")
    found = [one for one in read_transcripts(folder / "transcripts.jsonl") if not one.excluded]
    if not found:
        raise DataError(
            f"every transcript of {run.config.turns.neutral} is excluded; name transcripts that hold nothing."
        )
    store = capture_into(run, found, folder / "store")
    features = encode_store(store, hook_name, run.sae, folder / "features")
    source = TokenSource(
        hook_name=hook_name,
        acts=lambda rows: store.acts(hook_name, rows).numpy(),
        features=features.csr,
    )
    return NeutralSet(tokens=store.tokens, transcripts=found, sources={hook_name: source})
