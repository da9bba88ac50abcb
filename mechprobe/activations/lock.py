"""One process at a time writes a store: a lock that the system takes back when its owner dies.

The lock is a file in the store's folder that `fcntl` locks; it says who holds it and is removed at the end. Writers
of one process share it, which is safe, since shards are deterministic and appear whole. A writer that is sent to
another process does not carry it along: workers write under the lock of the process that sent them.
"""

import contextlib
import fcntl
import os
import platform
import weakref
from pathlib import Path

from mechprobe.activations.durable import unwritable
from mechprobe.errors import StoreError

LOCK_NAME = "writing.lock"


class StoreLock:
    """Held from `take` until it is released or nobody refers to it any longer."""

    def __init__(self, path: Path, handle: int) -> None:
        self._owner = os.getpid()
        self._finalizer = weakref.finalize(self, _release, path, handle, self._owner)

    @classmethod
    def take(cls, folder: Path) -> "StoreLock":
        """Take the lock of a folder, or share it with another writer of this process.

        Raises:
            StoreError: another process writes the store, or the folder cannot be written to.
        """
        path = folder.resolve() / LOCK_NAME
        held = _held.get(path)
        if held is None or not held.is_held:
            held = cls(path, _locked_file(path))
            _held[path] = held
        return held

    @property
    def is_held(self) -> bool:
        """Whether this process holds it: it was not released, and is not that of a parent that forked."""
        return self._finalizer.alive and self._owner == os.getpid()

    def release(self) -> None:
        """Let others write."""
        self._finalizer()


_held: "weakref.WeakValueDictionary[Path, StoreLock]" = weakref.WeakValueDictionary()


def _locked_file(path: Path) -> int:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            _lock(handle, path)
            # Its last owner may have removed the file after we opened it: then another file has the name.
            if path.exists() and os.fstat(handle).st_ino == path.stat().st_ino:
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()} on {platform.node()}".encode(), 0)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        owner = os.pread(handle, 200, 0).decode(errors="replace") or "another process"
        raise StoreError(
            f"{path.parent} is being written by {owner}; wait until it is done, or stop it and run again."
        ) from error


def _release(path: Path, handle: int, owner: int) -> None:
    if os.getpid() != owner:
        # A forked child has no lock, and must not remove its parent's file.
        os.close(handle)
        return
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    os.close(handle)
