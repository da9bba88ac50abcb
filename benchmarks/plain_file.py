"""What a disk and the page cache give without any format: plain writes with fsync, plain preadv."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

CALL_BYTES = 8 << 20
"""Bytes of one call."""


def write_plain(path: Path, acts: Tensor) -> None:
    """Write a tensor's bytes and wait until they are on the disk."""
    path.unlink(missing_ok=True)
    memory = bytes_of(acts)
    handle = os.open(path, os.O_CREAT | os.O_WRONLY)
    for start in range(0, len(memory), CALL_BYTES):
        piece = memory[start : start + CALL_BYTES]
        while len(piece):
            piece = piece[os.write(handle, piece) :]
    os.fsync(handle)
    os.close(handle)


def read_plain(path: Path, n_bytes: int, use: Callable[[Tensor], object] = lambda _: None) -> None:
    """Read a file's last bytes in order, into memory that is used again."""
    buffer = torch.empty(CALL_BYTES, dtype=torch.uint8)
    memory = bytes_of(buffer)
    handle = os.open(path, os.O_RDONLY)
    at = path.stat().st_size - n_bytes
    while n_read := os.preadv(handle, [memory], at):
        use(buffer[: n_read // 8 * 8])
        at += n_read
    os.close(handle)


def bytes_of(tensor: Tensor) -> memoryview:
    """A tensor's memory."""
    return memoryview(tensor.view(-1).view(torch.uint8).numpy())
