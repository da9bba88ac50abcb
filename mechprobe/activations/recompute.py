"""Are the stored rows what the model computes? Some conversations are read again, one at a time, and compared."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.activations.plan import selected_tokens
from mechprobe.activations.selection import TokenSelection
from mechprobe.activations.store import ActivationStore
from mechprobe.errors import StoreError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.rendering import Rendering
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Transcript

STORING = {"float32": 0.0, "float16": 1e-3, "bfloat16": 5e-3}
"""How far rounding to the dtype of the store moves a row at most, as a share of its norm."""
COMPUTING = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 5e-2}
"""How far batches of another shape move it in a model of this dtype, since sums are rounded in each layer."""
_NOTHING: tuple[float, int] = (0.0, -1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recomputed:
    """How far stored rows of a hook point are from those computed anew."""

    hook_name: str
    n_conversations: int
    n_rows: int
    largest: float
    """Largest distance of a row, as a share of its norm."""
    row: int
    """Where that is."""
    tolerance: float

    @property
    def is_alike(self) -> bool:
        """Whether all rows are within the tolerance."""
        return self.largest <= self.tolerance

    def __str__(self) -> str:
        verdict = "alike" if self.is_alike else "DIFFERENT"
        return (
            f"{self.hook_name}: {verdict}; {self.n_rows} rows of {self.n_conversations} conversations computed anew, the "
            f"farthest (row {self.row}) by {self.largest:.2g} of its norm, tolerance {self.tolerance:.2g}"
        )


def load_subject(
    store: ActivationStore, model: str | None = None, *, device: str = "cpu"
) -> Subject:
    """The model of a store, as its configuration says.

    Args:
        model: folder or hub name; by default the name in the store, which for a folder is only its last part.

    Raises:
        StoreError: the store does not say, and none is given.
    """
    name = model or store.config.get("model")
    if name is None:
        raise StoreError(f"{store.folder} does not name its model; give one.")
    template = store.config.get("chat_template")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.jinja"
        path.write_text(template or "")
        return Subject.load(
            name,
            device=device,
            dtype=_model_dtype(store),
            chat_template=str(path) if template else None,
            window=store.config.get("window"),
        )


def recompute(
    store: ActivationStore,
    subject: Subject,
    transcripts: Sequence[Transcript],
    n_conversations: int,
    *,
    seed: int = 0,
) -> list[Recomputed]:
    """Run the model on random conversations of a store and compare, hook point by hook point.

    Args:
        transcripts: those that were captured, in the same order.

    Raises:
        StoreError: the model, its tokens or the transcripts are not those of the store.
    """
    _check_model(store, subject)
    conversation = store.tokens["conversation"].to_numpy()
    stored = np.unique(conversation)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(stored)[:n_conversations])
    worst: dict[str, tuple[float, int]] = dict.fromkeys(store.hook_names, _NOTHING)
    n_rows = 0
    for number in chosen:
        rows = np.flatnonzero(conversation == number)
        n_rows += len(rows)
        for name, wanted in _rows_again(store, subject, transcripts, int(number), rows).items():
            shares = _shares(store.acts(name, rows), wanted)
            place = int(shares.argmax())
            worst[name] = max(worst[name], (float(shares[place]), int(rows[place])))
    tolerance = STORING[store.dtype] + COMPUTING[_model_dtype(store)]
    return [
        Recomputed(
            hook_name=name,
            n_conversations=len(chosen),
            n_rows=n_rows,
            largest=largest,
            row=row,
            tolerance=tolerance,
        )
        for name, (largest, row) in worst.items()
    ]


def _shares(found: Float[Tensor, "tok d"], wanted: Float[Tensor, "tok d"]) -> Float[Tensor, "tok"]:
    wanted = wanted.float()
    shares = (found - wanted).norm(dim=1) / wanted.norm(dim=1).clamp(min=1e-12)
    return shares.nan_to_num(nan=torch.inf)


def _rows_again(
    store: ActivationStore,
    subject: Subject,
    transcripts: Sequence[Transcript],
    number: int,
    rows: Int[np.ndarray, "tok"],
) -> Mapping[str, Float[Tensor, "tok _"]]:
    name = store.transcript_ids[number]
    if number >= len(transcripts) or transcripts[number].id != name:
        found = repr(transcripts[number].id) if number < len(transcripts) else "nothing"
        raise StoreError(
            f"conversation {number} of {store.folder} is {name!r}, the transcripts given have {found} there; give those "
            "that were captured, in the same order."
        )
    rendering = subject.render(transcripts[number])
    roles, sections = store.config.get("roles"), store.config.get("sections")
    select = TokenSelection(roles=roles and tuple(roles), sections=sections and tuple(sections))
    kept = np.flatnonzero(selected_tokens(rendering, select))
    stored_ids = store.tokens["token_id"].to_numpy()[rows]
    if not np.array_equal(rendering.token_ids[kept], stored_ids):
        raise StoreError(
            f"transcript {name!r} has other tokens now than in {store.folder}; give the transcripts, tokenizer and chat "
            "template of the capture."
        )
    whole = _all_rows(subject, rendering, store.hook_names)
    return {hook: acts[torch.from_numpy(kept)] for hook, acts in whole.items()}


def _all_rows(
    subject: Subject, rendering: Rendering, hook_names: Sequence[str]
) -> dict[str, Float[Tensor, "tok _"]]:
    n_tokens = len(rendering.token_ids)
    rows = {name: torch.zeros(n_tokens, subject.width(name)) for name in hook_names}
    for window in rendering.windows:
        batch = TokenBatch.of([window.token_ids.tolist()], subject.pad_id)
        inside = torch.from_numpy(np.flatnonzero(window.tokens >= 0))
        tokens = torch.from_numpy(window.tokens)[inside]
        for name, acts in subject.capture(batch, hook_names).items():
            rows[name][tokens] = acts[0].cpu().float()[inside]
    return rows


def _check_model(store: ActivationStore, subject: Subject) -> None:
    wanted = store.config.get("model_digest")
    if wanted is None:
        raise StoreError(
            f"{store.folder} does not say which model its activations are of, so they cannot be computed again; only "
            "captured stores can."
        )
    if subject.model_digest != wanted:
        raise StoreError(
            f"{store.folder} was captured from model {store.config.get('model')!r} with digest {wanted[:12]}, this one "
            f"({subject.name!r}) has {subject.model_digest[:12]}; load the model that was captured."
        )


def _model_dtype(store: ActivationStore) -> str:
    return str(store.config.get("model_dtype", "torch.float32")).removeprefix("torch.")
