"""What edited runs of a sequence share: one clean pass, from which each run goes on.

The clean pass keeps the keys and values of all tokens, and the residual stream where the edits come in. A run computes
only the blocks above, from the first edited token on.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.models.batches import TokenBatch
from mechprobe.models.passes import Passes


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CleanStart:
    """What all runs of some sequences share."""

    batch: TokenBatch
    """The sequences, padded on both sides so that the first edited token of each stands in one column."""
    n_before: int
    """That column."""
    cache: Any
    """Keys and values of every token."""
    n_blocks: int
    """Blocks below the edits."""
    resid: Float[Tensor, "case after d_model"] | None
    """Output of the last of those blocks from column `n_before` on."""


def clean_start(
    passes: Passes,
    points: Mapping[str, Any],
    sequences: Sequence[Sequence[int]],
    first: Sequence[int],
    *,
    n_blocks: int,
    pad_id: int,
) -> CleanStart:
    """Run the sequences once, without the edits that runs of them will get."""
    from mechprobe.models.repeated_cache import empty_cache

    batch, n_before = align(sequences, first, pad_id)
    cache = empty_cache()
    with _resid_kept(passes.bridge, points, n_blocks, n_before) as found:
        passes.call(batch, keep=1, past_key_values=cache, use_cache=True)
    return CleanStart(
        batch=batch,
        n_before=n_before,
        cache=cache,
        n_blocks=n_blocks,
        resid=found[0] if found else None,
    )


def resume(
    passes: Passes, points: Mapping[str, Any], start: CleanStart, case: Int[Tensor, "row"]
) -> Float[Tensor, "row vocab"]:
    """Logits after the last token of each run, computed from the first edited token on.

    Args:
        case: which of the sequences each run continues.
    """
    from mechprobe.models.repeated_cache import repeated_cache

    rows = TokenBatch(token_ids=start.batch.token_ids[case], mask=start.batch.mask[case])
    last = rows.mask[:, start.n_before :].sum(1) - 1
    case = case.to(passes.device)
    with _blocks_replaced(passes.bridge, points, start, case):
        return passes.at(
            rows,
            last,
            since=start.n_before,
            past_key_values=repeated_cache(start.cache, start.n_before, case),
            use_cache=True,
        )


def align(
    sequences: Sequence[Sequence[int]], first: Sequence[int], pad_id: int
) -> tuple[TokenBatch, int]:
    """Pad on both sides so that token `first` of each sequence stands in the column that is returned."""
    n_before, width = max(first), aligned_width(sequences, first)
    token_ids = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(sequences), width), dtype=torch.bool)
    for row, (sequence, edited) in enumerate(zip(sequences, first, strict=True)):
        start = n_before - edited
        token_ids[row, start : start + len(sequence)] = torch.as_tensor(sequence, dtype=torch.long)
        mask[row, start : start + len(sequence)] = True
    return TokenBatch(token_ids=token_ids, mask=mask), n_before


def aligned_width(sequences: Sequence[Sequence[int]], first: Sequence[int]) -> int:
    """Columns of the sequences when their first edited tokens stand in one."""
    after = [len(sequence) - edited for sequence, edited in zip(sequences, first, strict=True)]
    return max(first) + max(after)


@contextmanager
def _resid_kept(
    bridge: Any, points: Mapping[str, Any], n_blocks: int, n_before: int
) -> Generator[list[Tensor], None, None]:
    """Catch what the last of some blocks writes, before any edit of it."""
    found: list[Tensor] = []
    if not n_blocks:
        yield found
        return

    def keep(_point: Any, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[0][:, n_before:].clone())

    def drop(_block: Any, _inputs: Any, out: Any) -> None:
        # A block that returns more than the stream cannot be stood in for by it.
        if not isinstance(out, Tensor):
            found.clear()

    handles = [
        points[f"blocks.{n_blocks - 1}.hook_out"].register_forward_pre_hook(keep),
        bridge.blocks[n_blocks - 1].register_forward_hook(drop),
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _blocks_replaced(
    bridge: Any, points: Mapping[str, Any], start: CleanStart, case: Int[Tensor, "row"]
) -> Generator[None, None, None]:
    """Let the blocks below the edits write what they wrote in the clean pass."""
    if start.resid is None:
        yield
        return
    resid = start.resid.index_select(0, case)
    last = points[f"blocks.{start.n_blocks - 1}.hook_out"]
    blocks = list(bridge.blocks)[: start.n_blocks]

    def skip(*_args: Any, **_kwargs: Any) -> Tensor:
        return resid

    def write(*_args: Any, **_kwargs: Any) -> Tensor:
        # Through the hook point, where edits of the last block's output fire.
        return last(resid)

    for block in blocks:
        block.__dict__["forward"] = write if block is blocks[-1] else skip
    try:
        yield
    finally:
        for block in blocks:
            del block.__dict__["forward"]
