"""Shuffled batches for training, at the speed of the disk: read into a buffer that is used again, several hook points alike.

While one half of the buffer is served the other is filled. Nothing is allocated for a batch, so a batch is only valid
until the next is asked for. The state is a few numbers; a reader with the same settings goes on from it with the same batches.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.activations.chunk_order import ChunkOrder, Run
from mechprobe.activations.places import Place, opened, read_bytes, tensor_bytes
from mechprobe.activations.store import ActivationStore, Rows
from mechprobe.errors import ConfigError, ShapeError

BUFFER_BYTES = 512 << 20
"""Of both halves together."""
_SCRATCH_BYTES = 1 << 20
"""Read at once on the way to the buffer; stays in a core's cache."""
_MAX_GAP = 8
"""Unselected rows between two selected ones that are read rather than skipped, for each selected one."""

Batch = Mapping[str, Float[Tensor, "case _"]]
_Piece = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReaderState:
    """Where a reader stands: enough to go on with the next batch."""

    epoch: int = 0
    position: int = 0
    """Rows of the epoch that were given out."""


class ShuffledReader(Iterator[Batch]):
    """Batches of rows, each row once an epoch, mixed by `chunk_order.ChunkOrder`.

    A batch maps hook points to rows that belong to the same tokens. It is valid until the next one is asked for.
    """

    def __init__(
        self,
        store: ActivationStore,
        hook_names: Sequence[str],
        rows: Rows = None,
        *,
        batch_size: int,
        seed: int,
        epochs: int | None = None,
        drop_last: bool = False,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        """Select rows.

        Args:
            epochs: passes over the rows; None never ends. A batch may hold the end of an epoch and the start of the next.
            drop_last: leave out a last batch that is not full.
            dtype: of the batches; None for that of the store, which saves a copy.
            device: where the batches are; for a GPU the buffer is pinned.
            buffer_bytes: more mixes better.

        Raises:
            ConfigError: batch_size or buffer_bytes is out of range.
            HookError: nothing is stored for a hook point.
            ShapeError: no rows are selected.
        """
        self._store = store
        self._names = tuple(dict.fromkeys(hook_names))
        widths = {name: store.width(name) for name in self._names}
        if batch_size < 1 or buffer_bytes < 1 or not self._names:
            raise ConfigError(
                f"batch_size {batch_size} and buffer_bytes {buffer_bytes} must be >= 1, with a hook point at least."
            )
        numbers = store.row_numbers(rows)
        if not len(numbers):
            raise ShapeError("no rows to make batches of; select at least one.")
        stored = getattr(torch, store.dtype)
        per_row = sum(widths.values()) * stored.itemsize
        in_half = max(1, min(buffer_bytes // 2 // per_row, len(numbers)) // batch_size) * batch_size
        self._order = ChunkOrder.of(
            numbers,
            store.row_bounds,
            row_bytes=max(widths.values()) * stored.itemsize,
            block_rows=in_half,
            seed=seed,
        )
        self._batch_size, self._epochs, self._drop_last = batch_size, epochs, drop_last
        self._device = torch.device(device)
        self._dtype = dtype or stored
        self._halves = [
            _Half.empty(self._order.block_length(0), widths, stored, self._device) for _ in range(2)
        ]
        self._joined = {
            name: torch.empty(batch_size, width, dtype=self._dtype, device=self._device)
            for name, width in widths.items()
        }
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shuffled-reader")
        self._filling: Future[None] | None = None
        self._filled: tuple[int, int] | None = None
        self._current: tuple[int, int] | None = None
        self.state = ReaderState()

    def __next__(self) -> Batch:
        pieces: list[_Piece] = []
        missing = self._batch_size
        state = self.state
        while missing and not self._is_over(state):
            piece, state = self._take(state, missing)
            missing -= len(piece[self._names[0]])
            pieces.append(piece if not missing and not pieces else self._keep(pieces, piece))
        if not pieces or (missing and self._drop_last):
            raise StopIteration
        self.state = state
        if len(pieces) == 1 and not missing:
            return self._converted(pieces[0])
        n_rows = self._batch_size - missing
        return {name: joined[:n_rows] for name, joined in self._joined.items()}

    def seek(self, state: ReaderState) -> None:
        """Go on from a state of a reader with the same settings, without reading what is left out.

        Raises:
            ConfigError: the state is that of other rows.
        """
        if not (0 <= state.position < self._order.n_rows and state.epoch >= 0):
            raise ConfigError(
                f"{state} is no place in epochs of {self._order.n_rows} rows; use a state of the same rows."
            )
        self.state = state

    def seek_batch(self, index: int) -> None:
        """Go on with the batch of a number, counted from 0, as if all before it had been read."""
        epoch, position = divmod(index * self._batch_size, self._order.n_rows)
        self.seek(ReaderState(epoch=epoch, position=position))

    def _is_over(self, state: ReaderState) -> bool:
        return self._epochs is not None and state.epoch >= self._epochs

    def _take(self, state: ReaderState, most: int) -> tuple[_Piece, ReaderState]:
        """The next rows of a block, at most so many, as views of the buffer."""
        block, at = divmod(state.position, self._order.block_rows)
        half = self._half(state.epoch, block)
        end = min(at + most, self._order.block_length(block))
        position = state.position + end - at
        piece = {name: rows[at:end] for name, rows in half.rows.items()}
        if position == self._order.n_rows:
            return piece, ReaderState(epoch=state.epoch + 1)
        return piece, replace(state, position=position)

    def _keep(self, pieces: Sequence[_Piece], piece: _Piece) -> _Piece:
        """Copy a part of a batch to where its other parts are, before the buffer is filled anew."""
        at = sum(len(one[self._names[0]]) for one in pieces)
        kept: dict[str, Tensor] = {}
        for name, rows in piece.items():
            kept[name] = self._joined[name][at : at + len(rows)].copy_(rows)
        return kept

    def _converted(self, piece: _Piece) -> Batch:
        if self._device.type != "cpu":
            moved = {n: rows.to(self._device, non_blocking=True) for n, rows in piece.items()}
            return {name: rows.to(self._dtype) for name, rows in moved.items()}
        if next(iter(piece.values())).dtype == self._dtype:
            return piece
        return {name: self._joined[name][: len(rows)].copy_(rows) for name, rows in piece.items()}

    def _half(self, epoch: int, block: int) -> "_Half":
        """The half of the buffer that holds a block; the other one is then filled with the block after it."""
        wanted = (epoch, block)
        if wanted != self._current:
            if wanted != self._filled:
                self._fill(wanted)
            if self._filling is not None:
                self._filling.result()
                self._filling = None
            self._halves.reverse()
            self._current, self._filled = wanted, None
            after = (epoch, block + 1) if block + 1 < self._order.n_blocks else (epoch + 1, 0)
            if self._epochs is None or after[0] < self._epochs:
                self._fill(after)
        return self._halves[0]

    def _fill(self, wanted: tuple[int, int]) -> None:
        if self._filling is not None:
            self._filling.result()
        if self._device.type == "cuda":
            # Copies to the GPU that still read this half.
            torch.cuda.current_stream(self._device).synchronize()
        half = self._halves[1]
        self._filling = self._thread.submit(self._read, half, *wanted)
        self._filled = wanted

    def _read(self, half: "_Half", epoch: int, block: int) -> None:
        for run in self._order.runs(epoch, block):
            places = self._store.places(run.shard)
            with opened(self._store.path(run.shard)) as handle:
                for name in self._names:
                    half.fill(handle, name, places[name], run)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Half:
    """Memory for one block of rows at each hook point."""

    rows: dict[str, Tensor]
    items: dict[str, np.ndarray]
    """The same memory, one item a row: numpy moves such items fastest."""
    scratch: dict[str, Tensor]

    @classmethod
    def empty(
        cls, n_rows: int, widths: Mapping[str, int], dtype: torch.dtype, device: torch.device
    ) -> "_Half":
        is_pinned = device.type == "cuda"
        rows = {
            name: torch.empty(n_rows, width, dtype=dtype, pin_memory=is_pinned)
            for name, width in widths.items()
        }
        scratch = {
            name: torch.empty(
                max(1, _SCRATCH_BYTES // (width * dtype.itemsize)), width, dtype=dtype
            )
            for name, width in widths.items()
        }
        items = {name: _items(tensor) for name, tensor in rows.items()}
        return cls(rows=rows, items=items, scratch=scratch)

    def fill(self, handle: int, name: str, place: Place, run: Run) -> None:
        """Read the rows of a run and put each where it goes."""
        scratch, items = self.scratch[name], self.items[name]
        for part in _near(run.rows, len(scratch)):
            rows, slots = run.rows[part], run.slots[part]
            n_read = int(rows[-1] - rows[0]) + 1
            memory = scratch[:n_read]
            read_bytes(
                handle, [tensor_bytes(memory)], place.offset + int(rows[0]) * place.row_bytes
            )
            picked = _items(memory)
            items[slots] = picked if n_read == len(rows) else picked[rows - rows[0]]


def _near(rows: np.ndarray, most: int) -> Iterator[slice]:
    """Cut ascending rows into parts that span at most so many rows and have no wide gaps."""
    gaps = np.flatnonzero(np.diff(rows) > _MAX_GAP) + 1
    for start, end in zip([0, *gaps], [*gaps, len(rows)], strict=True):
        at = int(start)
        while at < end:
            stop = min(int(np.searchsorted(rows, rows[at] + most)), int(end))
            yield slice(at, stop)
            at = stop


def _items(tensor: Tensor) -> np.ndarray:
    row_bytes = tensor.shape[1] * tensor.element_size()
    flat: np.ndarray = tensor.view(torch.uint8).view(len(tensor), row_bytes).numpy()
    return flat.view(np.dtype((np.void, row_bytes)))[:, 0]
