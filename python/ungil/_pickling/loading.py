"""What pickles of things that no module holds are loaded with; the pickles name these functions."""

from __future__ import annotations

import functools
import sys
import types
from _pickle import dumps, loads
from types import CellType, FunctionType, ModuleType

from ungil._pickling.names import MAIN, NOWHERE, describe, find

# Type checkers take this name for true; importing typing would slow every worker's start.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Definition = tuple[str, int, bytes]
    """A name of ``__main__``, a number that changes with its content, and the pickled content."""


class Namespace:
    """The ``__main__`` of a worker."""

    def __init__(self, module: ModuleType) -> None:
        self._space = module.__dict__
        self._applied: dict[str, int] = {}

    def apply(self, definitions: Iterable[Definition]) -> None:
        """Gives names the values that the parent has for them, unless they had those already.

        What cannot be loaded raises only where it is used.

        Args:
            definitions: The definitions, each after those that it needs.
        """
        for name, number, blob in definitions:
            if self._applied.get(name) == number:
                continue
            try:
                value = loads(blob)
            except Exception as error:
                value = Unsent(name, f"loading it there failed with {describe(error)}")
            # The initializer may have made what could not be sent.
            if type(value) is not Unsent or name not in self._space:
                self._space[name] = value
            self._applied[name] = number


def find_in_main(qualname: str) -> Any:
    found = find(sys.modules[MAIN].__dict__, qualname)
    if found is NOWHERE:
        raise AttributeError(f"module '__main__' has no attribute {qualname!r}")
    return found


def load_module(name: str) -> ModuleType:
    __import__(name)
    return sys.modules[name]


def builtin_type(name: str) -> Any:
    return getattr(types, name)


def make_code(*arguments: Any) -> types.CodeType:
    return types.CodeType(*arguments)


def make_cell() -> CellType:
    return CellType()


def fill_cell(cell: CellType, contents: list[Any]) -> None:
    for value in contents:
        cell.cell_contents = value


def make_function(
    code: types.CodeType,
    home: str | dict[str, Any],
    name: str,
    closure: tuple[CellType, ...] | None,
) -> FunctionType:
    space = load_module(home).__dict__ if type(home) is str else home
    assert type(space) is dict
    space.setdefault("__builtins__", __builtins__)
    return FunctionType(code, space, name, None, closure)


def fill_function(function: FunctionType, state: tuple[Any, ...]) -> None:
    attributes, more, contents, copied, submodules = state
    for key, value in attributes.items():
        setattr(function, key, value)
    if more:
        function.__dict__.update(more)
    for at, value in contents:
        assert function.__closure__ is not None
        function.__closure__[at].cell_contents = value
    if copied:
        function.__globals__.update(copied)
    for name in submodules:
        try:
            __import__(name)
        except ImportError:
            continue  # using it will fail, if it is used at all


def make_cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def make_cached_property(function: Callable[..., Any], name: str | None, doc: str | None) -> Any:
    made: Any = functools.cached_property(function)
    made.attrname = name
    made.__doc__ = doc
    return made


def make_typevar(
    name: str, constraints: tuple[Any, ...], options: dict[str, Any], module: str
) -> Any:
    import typing

    made: Any = typing.TypeVar(name, *constraints, **options)  # type: ignore[misc]
    made.__module__ = module  # of its own, it has that of who calls
    return made


def make_alias(name: str, value: Any, parameters: tuple[Any, ...], module: str) -> Any:
    import typing

    space = {"__name__": module, "make": typing.TypeAliasType}  # type: ignore[attr-defined]
    space |= {"name": name, "value": value, "parameters": parameters}
    # Its module is that of who calls, and cannot be changed.
    return eval("make(name, value, type_params=parameters)", space)


class Unsent:
    """Stands in a worker for a global that could not be sent; using it says so."""

    __slots__ = ("_name", "_reason")

    def __init__(self, name: str, reason: str) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_reason", reason)

    def __repr__(self) -> str:
        return f"<{object.__getattribute__(self, '_name')}, which could not be sent here>"


def _raise_unsent(self: Unsent, *_: Any, **__: Any) -> Any:
    name = object.__getattribute__(self, "_name")
    raise RuntimeError(
        f"{name!r} of __main__ could not be sent to this worker "
        f"({object.__getattribute__(self, '_reason')}): create it in the executor's initializer, "
        "with 'global' there if it is a global, or inside the function that uses it"
    )


_BINARY = "add sub mul matmul truediv floordiv mod divmod pow lshift rshift and xor or"
_SPECIAL = """
    neg pos abs invert int float complex index round trunc floor ceil
    lt le eq ne gt ge hash bool str format bytes fspath
    len length_hint contains getitem setitem delitem reversed iter next
    call enter exit await aiter anext aenter aexit buffer
    getattribute setattr delattr get set delete mro_entries
    instancecheck subclasscheck copy deepcopy reduce reduce_ex
"""


def _make_unusable() -> None:
    binary = _BINARY.split()
    for name in (*binary, *(f"r{each}" for each in binary), *(f"i{each}" for each in binary)):
        setattr(Unsent, f"__{name}__", _raise_unsent)
    for name in _SPECIAL.split():
        setattr(Unsent, f"__{name}__", _raise_unsent)


_make_unusable()


class UnsentMaker:
    """Pickles as what becomes an `Unsent` when it is loaded."""

    def __init__(self, name: str, reason: str) -> None:
        self._arguments = (name, reason)

    def __reduce__(self) -> Any:
        return Unsent, self._arguments


def unsent_blob(name: str, error: Exception) -> bytes:
    return dumps(UnsentMaker(name, describe(error)), 5)
