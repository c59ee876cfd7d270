"""What has a name that another process can find, and the names that code uses."""

from __future__ import annotations

import functools
import sys
import types
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType

# Type checkers take this name for true; importing typing would slow every worker's start.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any


MAIN = "__main__"
# Every module has these of its own.
NEVER_SENT = frozenset({"__builtins__", "__name__"})
NOWHERE: Any = object()


def is_importable(thing: Any) -> bool:
    """Whether it is a function or class that another process can import."""
    kind = type(thing)
    if kind is not FunctionType and kind is not BuiltinFunctionType and not isinstance(thing, type):
        return False
    module_name = getattr(thing, "__module__", None)
    qualname = getattr(thing, "__qualname__", None)
    if type(module_name) is not str or type(qualname) is not str or module_name == MAIN:
        return False
    modules = sys.modules
    found: Any = modules.get(module_name)
    if found is None or found is modules[MAIN] or travels_by_value(module_name):
        return False
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found is thing


def travels_by_value(module_name: str) -> bool:
    """Whether the user told cloudpickle so about a module."""
    registered = modules_by_value()
    return bool(registered) and any(
        module_name == each or module_name.startswith(f"{each}.") for each in registered
    )


def modules_by_value() -> Iterable[str]:
    """The modules of which the user told cloudpickle so."""
    cloudpickle = sys.modules.get("cloudpickle")
    # Another thread may be importing it just now.
    registry = getattr(cloudpickle, "list_registry_pickle_by_value", None)
    return registry() if registry is not None else ()


def importable_home(space: dict[str, Any]) -> str | None:
    """The importable module of which these are the globals."""
    name = space.get("__name__")
    if type(name) is not str or name == MAIN:
        return None
    module = sys.modules.get(name)
    # What has no spec was not imported and may not be found by a worker.
    if (
        module is None
        or getattr(module, "__dict__", None) is not space
        or getattr(module, "__spec__", None) is None
        or travels_by_value(name)
    ):
        return None
    return name


def is_heap_type(cls: type) -> bool:
    """Whether a class statement made it, not C."""
    return bool(cls.__flags__ & 1 << 9)


def find(space: dict[str, Any], qualname: Any) -> Any:
    """What a namespace has under a dotted name."""
    if type(qualname) is not str:
        return NOWHERE
    root, *parts = qualname.split(".")
    found = space.get(root, NOWHERE)
    for part in parts:
        if found is NOWHERE:
            break
        found = getattr(found, part, NOWHERE)
    return found


def describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def contents_of(cells: Iterable[CellType]) -> Iterator[tuple[int, Any]]:
    """Position and content of the cells that have one."""
    for at, cell in enumerate(cells):
        try:
            yield at, cell.cell_contents
        except ValueError:
            continue


def annotations_of(thing: Any) -> dict[str, Any]:
    """The annotations; none where evaluating them fails, as it may since Python 3.14."""
    try:
        return dict(thing.__annotations__)
    except Exception:
        return {}


@functools.cache
def _global_opcodes() -> dict[int, int]:
    """The instructions that use a global, with the bits by which their argument is shifted."""
    import opcode

    shifts = {
        "LOAD_GLOBAL": 1,
        "STORE_GLOBAL": 0,
        "DELETE_GLOBAL": 0,
        "LOAD_NAME": 0,  # in the body of a class
        "LOAD_FROM_DICT_OR_GLOBALS": 0,
    }
    return {opcode.opmap[name]: bits for name, bits in shifts.items() if name in opcode.opmap}


# By id, with the code that has it, which must live for the id to be its own.
_known_names: dict[int, tuple[types.CodeType, frozenset[str]]] = {}


def globals_of(code: types.CodeType) -> frozenset[str]:
    """The globals that a function uses, and what is nested in it."""
    known = _known_names.get(id(code))
    if known is not None:
        return known[1]
    opcodes = _global_opcodes()
    names: set[str] = set()
    extended = 0
    text = code.co_code
    for operation, argument in zip(text[::2], text[1::2], strict=True):
        argument |= extended
        if operation in opcodes:
            names.add(code.co_names[argument >> opcodes[operation]])
        extended = argument << 8 if operation == _extended_arg() else 0
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= globals_of(constant)
    if len(_known_names) > 10_000:
        _known_names.clear()
    found = frozenset(names)
    _known_names[id(code)] = code, found
    return found


@functools.cache
def _extended_arg() -> int:
    import opcode

    return opcode.opmap["EXTENDED_ARG"]


def names_in(code: types.CodeType) -> set[str]:
    """All names in a function, attributes included."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= names_in(constant)
    return names


def submodules_of(code: types.CodeType, modules: list[ModuleType]) -> list[str]:
    """The imported submodules that a function can reach as attributes of their packages."""
    if not modules:
        return []
    found: dict[str, None] = {}
    names = names_in(code)
    packages = [module.__name__ for module in modules]
    while packages:
        package = packages.pop()
        for name in names:
            full = f"{package}.{name}"
            if full not in found and full in sys.modules:
                found[full] = None
                packages.append(full)
    return sorted(found)
