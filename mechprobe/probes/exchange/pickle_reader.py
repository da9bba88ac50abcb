"""Read the values out of a pickle without running it.

A pickle is a program: it names functions and has them called. Here nothing that it names is ever imported. The program
is stepped through instruction by instruction, a name is looked up in a table that the caller gives, and an instruction
or a name that is not known ends the reading. So a file can be wrong, but it cannot do anything.
"""

import pickletools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, cast

from mechprobe.errors import CheckpointError

Names = Mapping[str, Callable[..., Any] | None]
"""What a file may name: its full name -> what stands for it when it is called, or None if it never is."""


class StatefulValue(ABC):
    """A value that the file first makes and then fills; nothing else may be filled."""

    @abstractmethod
    def fill(self, state: Any) -> None:
        """Take the state that the file gives."""


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """Something that the file names, for instance torch.FloatStorage: known by its name, never imported."""

    path: str
    call: Callable[..., Any] | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Machine:
    """The state of one pass over one pickle."""

    names: Names
    load: Callable[[Any], Any] | None
    stack: list[Any] = field(default_factory=list[Any])
    marks: list[int] = field(default_factory=list[int])
    memo: dict[int, Any] = field(default_factory=dict[int, Any])

    def take(self, n: int) -> list[Any]:
        """The last n values, taken off the stack."""
        if len(self.stack) < n + (self.marks[-1] if self.marks else 0):
            raise IndexError("a value is missing")
        return self._cut(len(self.stack) - n)

    def since_mark(self) -> list[Any]:
        """The values since the last mark, taken off the stack with the mark."""
        return self._cut(self.marks.pop())

    def _cut(self, at: int) -> list[Any]:
        items = self.stack[at:]
        del self.stack[at:]
        return items


def read_pickle(stream: BytesIO, names: Names, load: Callable[[Any], Any] | None = None) -> Any:
    """The value of the pickle that starts where the stream stands; the stream then stands after it.

    Args:
        load: what stands for a reference out of the pickle (torch keeps the numbers of its tensors outside).

    Raises:
        CheckpointError: the bytes are no pickle, are cut short, or ask for anything but plain values.
    """
    machine = _Machine(names=names, load=load)
    try:
        with warnings.catch_warnings():
            # Damaged text in a file makes Python warn of escape sequences before it is refused.
            warnings.simplefilter("ignore")
            for instruction, argument, _ in pickletools.genops(stream):
                if instruction.name == "STOP":
                    return machine.take(1)[0]
                _step(machine, instruction.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise CheckpointError(
            f"it is not a whole pickle ({error}); copy or download it again."
        ) from error
    raise CheckpointError("it ends before its value does; copy or download it again.")


def _step(machine: _Machine, name: str, argument: Any) -> None:
    if name in _CARRIES:
        machine.stack.append(argument)
    elif name in _CONSTANTS:
        machine.stack.append(_CONSTANTS[name])
    elif name in _TUPLES:
        machine.stack.append(tuple(machine.take(_TUPLES[name])))
    elif name in _STEPS:
        _STEPS[name](machine, argument)
    elif name not in _DESCRIBES:
        raise CheckpointError(
            f"it uses the pickle instruction {name}, which numbers do not need; it is not read."
        )


def _extend(machine: _Machine, items: list[Any]) -> None:
    if not isinstance(machine.stack[-1], list):
        raise TypeError("items are given to something that is no list")
    cast(list[Any], machine.stack[-1]).extend(items)


def _put(machine: _Machine, items: list[Any]) -> None:
    if not isinstance(machine.stack[-1], dict):
        raise TypeError("keys are given to something that is no dictionary")
    target = cast(dict[Any, Any], machine.stack[-1])
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Other keys can be built so that hashing them never ends.
        if not isinstance(key, str | int | float | bytes | None):
            raise TypeError("a key is neither text nor a number")
        target[key] = value


def _new_dict(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    machine.stack.append({})
    _put(machine, items)


def _remember(machine: _Machine, at: Any) -> None:
    machine.memo[len(machine.memo) if at is None else int(at)] = machine.stack[-1]


def _name(machine: _Machine, argument: Any) -> None:
    module, name = machine.take(2) if argument is None else str(argument).split(" ", 1)
    path = f"{module}.{name}"
    if path not in machine.names:
        raise CheckpointError(
            f"it names {path[:80]}, which is no array of numbers; unpickling such a file can run code, so it is "
            "not read (save its numbers with numpy.savez or safetensors where it can be trusted)."
        )
    machine.stack.append(Name(path, machine.names[path]))


def _call(machine: _Machine, _: Any) -> None:
    name, arguments = machine.take(2)
    if not isinstance(name, Name) or name.call is None or not isinstance(arguments, tuple):
        called = name.path if isinstance(name, Name) else f"a {type(name).__name__}"
        raise CheckpointError(f"it calls {called}, which makes no numbers; it is not read.")
    machine.stack.append(name.call(*cast(tuple[Any, ...], arguments)))


def _fill(machine: _Machine, _: Any) -> None:
    value, state = machine.take(2)
    if not isinstance(value, StatefulValue):
        raise CheckpointError(f"it reaches into a {type(value).__name__}; it is not read.")
    value.fill(state)
    machine.stack.append(value)


def _load(machine: _Machine, _: Any) -> None:
    if machine.load is None:
        raise CheckpointError("it refers to something outside of itself; it is not read.")
    machine.stack.append(machine.load(machine.take(1)[0]))


_DESCRIBES = {"PROTO", "FRAME"}
_CARRIES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "POP_MARK": lambda machine, _: machine.since_mark().clear(),
    "POP": lambda machine, _: machine.take(1).clear(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "LIST": lambda machine, _: machine.stack.append(machine.since_mark()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "DICT": _new_dict,
    "APPEND": lambda machine, _: _extend(machine, machine.take(1)),
    "APPENDS": lambda machine, _: _extend(machine, machine.since_mark()),
    "SETITEM": lambda machine, _: _put(machine, machine.take(2)),
    "SETITEMS": lambda machine, _: _put(machine, machine.since_mark()),
    "MEMOIZE": _remember,
    "PUT": _remember,
    "BINPUT": _remember,
    "LONG_BINPUT": _remember,
    "GET": lambda machine, at: machine.stack.append(machine.memo[int(at)]),
    "BINGET": lambda machine, at: machine.stack.append(machine.memo[int(at)]),
    "LONG_BINGET": lambda machine, at: machine.stack.append(machine.memo[int(at)]),
    "GLOBAL": _name,
    "STACK_GLOBAL": _name,
    "REDUCE": _call,
    "NEWOBJ": _call,
    "BUILD": _fill,
    "BINPERSID": _load,
}
