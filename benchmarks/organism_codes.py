"""Real sparse codes: the shipped organism's activations through the SAE that was trained on them, with their labels."""

import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from mechprobe.activations.capture import capture
from mechprobe.activations.rows import span_table
from mechprobe.models.organism.datasets import DatasetConfig, draw_transcripts
from mechprobe.models.organism.roles import draw_roles
from mechprobe.models.organism.vocabulary import INDICATORS
from mechprobe.models.subject import Subject
from mechprobe.probes.labels.token_labels import label_tokens
from mechprobe.saes.checkpoints import load_sae
from mechprobe.saes.encoding import encode_rows

CHECKPOINTS = Path(__file__).parents[1] / "sae_checkpoints"
HOOK = "blocks.2.hook_out"


def organism_codes(n_transcripts: int) -> tuple[sp.csr_matrix, np.ndarray]:
    """Codes of the labelled tokens, and the labels of the 18 indicators (1, 0, -1 left out)."""
    config = DatasetConfig(n_fit=n_transcripts, n_select=1, n_test=1)
    transcripts = list(draw_transcripts(draw_roles(0), config))
    subject = Subject.load(CHECKPOINTS / "organism-natural")
    with tempfile.TemporaryDirectory() as name:
        store = capture(transcripts, subject, [HOOK], Path(name), dtype="float32")
        spans = span_table(store.tokens, transcripts)
        labelled = label_tokens(store.tokens, spans, transcripts, INDICATORS)
        acts = store.acts(HOOK, labelled.rows)
    codes = encode_rows(load_sae(CHECKPOINTS / "organism-natural-sae" / HOOK), acts)
    return codes, labelled.labels[:, : len(INDICATORS)]
