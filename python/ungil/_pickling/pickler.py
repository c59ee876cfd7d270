"""Pickling: as the standard library does, and also what no module holds."""

from __future__ import annotations

import copyreg
import functools
import io
import sys
import types
from _pickle import Pickler as _PlainPickler
from _pickle import PicklingError
from types import CellType, FunctionType, ModuleType

from ungil._pickling import classes, loading
from ungil._pickling.names import (
    MAIN,
    annotations_of,
    contents_of,
    describe,
    find,
    globals_of,
    importable_home,
    is_heap_type,
    is_importable,
    submodules_of,
)

# Type checkers take this name for true; importing typing would slow every worker's start.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from pickle import PickleBuffer
    from typing import Any, Protocol

    class Collector(Protocol):
        """Takes buffers out of band."""

        saw_readonly: bool
        saw_shared: bool

        def __call__(self, buffer: PickleBuffer, /) -> Any: ...

        def reset(self) -> None: ...


_REDUCE: Any = object.__reduce__
_REDUCE_EX: Any = object.__reduce_ex__


def dumps_result(value: Any, collector: Collector | None) -> bytes:
    """Pickles a result in a worker.

    Args:
        value: The result.
        collector: What takes buffers out of band, if anything does.

    Raises:
        Exception: The value cannot be pickled; what pickle raises.
    """
    try:
        return dumps_plain(value, collector)
    except Exception as error:
        try:
            return dumps_by_value(value, collector, sys.modules[MAIN], is_result=True)[1]
        except Exception as caught:
            raise error from caught


def dumps_plain(value: Any, collector: Collector | None) -> bytes:
    """Pickles as the standard library does between processes."""
    data = _dumps(value, 5, collector)
    if collector is None or not _needs_copies(collector):
        return data
    collector.reset()
    try:
        return _dumps(value, 4, None)
    except PicklingError:
        return _dumps(value, 5, None)


def _needs_copies(collector: Collector) -> bool:
    """Whether everything shall be pickled in band.

    With buffers, a read-only array stays one; the stdlib's workers get a writable copy. But that is
    no reason to copy also what is shared, which is the one thing that copies cannot be.
    """
    return collector.saw_readonly and not collector.saw_shared


def _dumps(value: Any, protocol: int, collector: Collector | None) -> bytes:
    file = io.BytesIO()
    pickler = _PlainPickler(file, protocol, buffer_callback=collector)
    pickler.dispatch_table = reducers()
    pickler.dump(value)
    return file.getvalue()


_known_reducers: dict[type, Any] = {}
_known_counts = (-1, -1)


def reducers() -> dict[type, Any]:
    """The program's reducers, and those of ``multiprocessing``: for sockets and connections."""
    global _known_reducers, _known_counts

    reduction: Any = sys.modules.get("multiprocessing.reduction")
    # While another thread imports it, it has none yet; and asking for an attribute would import it
    # where that was put off.
    pickler = None if reduction is None else vars(reduction).get("ForkingPickler")
    more: dict[type, Any] = getattr(pickler, "_extra_reducers", {})
    counts = (len(copyreg.dispatch_table), len(more))
    if counts != _known_counts:
        _known_reducers = {**copyreg.dispatch_table, **more}
        _known_counts = counts
    return _known_reducers


def dumps_by_value(
    value: Any, collector: Collector | None, main: ModuleType, is_result: bool = False
) -> tuple[Pickler, bytes]:
    """Pickles also what no module holds."""
    if collector is None:
        pickler = Pickler(main, is_result=is_result)
        return pickler, pickler.dumps(value)
    collector.reset()
    pickler = Pickler(main, collector=collector, is_result=is_result)
    data = pickler.dumps(value)
    if not _needs_copies(collector):
        return pickler, data
    collector.reset()
    try:
        pickler = Pickler(main, protocol=4, is_result=is_result)
        return pickler, pickler.dumps(value)
    except PicklingError:
        pickler = Pickler(main, is_result=is_result)
        return pickler, pickler.dumps(value)


class Pickler(_PlainPickler):
    """Pickles by value what no module holds, and notes the names of ``__main__`` that are needed.

    Attributes:
        hard: The names that the pickle refers to.
        soft: The names that functions in it may use when they run.
    """

    def __init__(
        self,
        main: ModuleType,
        protocol: int = 5,
        collector: Collector | None = None,
        inline: frozenset[str] = frozenset(),
        is_result: bool = False,
    ) -> None:
        self._file = io.BytesIO()
        super().__init__(self._file, protocol, buffer_callback=collector)
        self.dispatch_table = {**reducers(), **_more_reducers()}
        self.hard: dict[str, None] = {}
        self.soft: dict[str, None] = {}
        self._main = main
        self._space = main.__dict__
        self._protocol = protocol
        self._inline = inline
        self._fill = classes.fill_new_class if is_result else classes.fill_class
        # By id; their owners are in the pickler's memo and live as long.
        self._closure_cells: set[int] = set()
        self._copied_globals: dict[int, dict[str, Any]] = {}
        self._lacking: type | None = None
        self._left_out: dict[str, Any] = {}

    def dumps(self, value: Any) -> bytes:
        self.dump(value)
        return self._file.getvalue()

    def leave_out(self, cls: type) -> None:
        """Puts placeholders for those attributes of a class that cannot be pickled."""
        self._lacking = cls
        for key, value in list(cls.__dict__.items()):
            if isinstance(value, type | _MADE_OF_CODE) or key in {"__dict__", "__weakref__"}:
                continue
            try:
                Pickler(self._main, inline=self._inline).dumps(value)
            except Exception as error:
                self._left_out[key] = loading.UnsentMaker(
                    f"{cls.__qualname__}.{key}", describe(error)
                )

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is FunctionType:
            return self._reduce_function(obj)
        if issubclass(kind, type):
            return self._reduce_class(obj)
        if kind is CellType:
            return self._reduce_cell(obj)
        if kind in self.dispatch_table:
            return NotImplemented
        if kind.__reduce_ex__ is _REDUCE_EX and kind.__reduce__ is _REDUCE:
            return NotImplemented  # it does not reduce itself to a name
        reduced = obj.__reduce_ex__(self._protocol)
        return self._reduce_named(obj, reduced) if type(reduced) is str else reduced

    def _is_in_main(self, obj: Any, qualname: Any) -> bool:
        """Whether ``__main__`` has it under its name."""
        name = getattr(obj, "__module__", None)
        if name != MAIN and (type(name) is not str or sys.modules.get(name) is not self._main):
            return False
        return find(self._space, qualname) is obj

    def _refer(self, obj: Any, qualname: str) -> Any:
        """Reduces it to its name in ``__main__``, ``None`` if it has to travel by value."""
        root = qualname.partition(".")[0]
        if root in self._inline:
            return None
        self.hard[root] = None
        if obj.__module__ != MAIN:
            return loading.find_in_main, (qualname,)
        return qualname

    def _reduce_function(self, function: FunctionType) -> Any:
        if self._is_in_main(function, function.__qualname__):
            referred = self._refer(function, function.__qualname__)
            if referred is not None:
                return referred
        elif is_importable(function):
            return NotImplemented
        space = function.__globals__
        code = function.__code__
        names = globals_of(code)
        copied: dict[str, Any] | None = None
        home: str | dict[str, Any] | None = self._home(space)
        if home == MAIN:
            self.soft.update(dict.fromkeys(names & space.keys()))
            if space.get("__package__"):  # relative imports need it
                self.soft["__package__"] = None
        elif home is None:
            # Sorted: sets of strings have another order in each process, and pickles must not.
            copied = {name: space[name] for name in sorted(names) if name in space}
            home = self._copied_globals.get(id(space))
            if home is None:
                kept = ("__package__", "__name__", "__path__", "__file__")
                home = {name: space[name] for name in kept if name in space}
                self._copied_globals[id(space)] = home
        closure = function.__closure__
        contents = []
        if closure is not None:
            self._closure_cells.update(map(id, closure))
            contents = list(contents_of(closure))
        modules = [value for name in names if isinstance(value := space.get(name), ModuleType)]
        modules += [value for _, value in contents if isinstance(value, ModuleType)]
        attributes: dict[str, Any] = {"__qualname__": function.__qualname__}
        for key in ("__module__", "__doc__", "__defaults__", "__kwdefaults__"):
            attributes[key] = getattr(function, key)
        attributes["__annotations__"] = annotations_of(function)
        state = (
            attributes,
            dict(function.__dict__),
            contents,
            copied,
            submodules_of(code, modules),
        )
        return (
            loading.make_function,
            (code, home, function.__name__, closure),
            state,
            None,
            None,
            loading.fill_function,
        )

    def _home(self, space: dict[str, Any]) -> str | None:
        """The module that workers have and of which these are the globals."""
        if space is self._space:
            return MAIN
        return importable_home(space)

    def _reduce_cell(self, cell: CellType) -> Any:
        if id(cell) in self._closure_cells:
            return loading.make_cell, ()  # the function fills it, after it was made itself
        contents = [value for _, value in contents_of((cell,))]
        return loading.make_cell, (), contents, None, None, loading.fill_cell

    def _reduce_class(self, cls: type) -> Any:
        qualname = getattr(cls, "__qualname__", None)
        if self._is_in_main(cls, qualname):
            referred = self._refer(cls, str(qualname))
            if referred is not None:
                return referred
        elif is_importable(cls):
            return NotImplemented
        cloudpickle = _cloudpickle()
        if cls in cloudpickle._BUILTIN_TYPE_NAMES:
            return loading.builtin_type, (cloudpickle._BUILTIN_TYPE_NAMES[cls],)
        if cloudpickle._should_pickle_by_reference(cls) or not is_heap_type(cls):
            return NotImplemented
        _, arguments, (state, _), *_ = cloudpickle._dynamic_class_reduce(cls)
        # Caches: they come to be when an instance is pickled, or annotations are looked at.
        state.pop("__slotnames__", None)
        state.pop("__annotations_cache__", None)
        if cls.__dict__.get("__annotate_func__") is not None:
            state["__annotations__"] = annotations_of(cls)
        if cls is self._lacking:
            state.update({key: self._left_out[key] for key in state if key in self._left_out})
        members: dict[str, Any] = {}
        maker: Callable[..., type]
        if issubclass(cls, cloudpickle.Enum):
            maker = classes.make_enum
            bases, name, _, _, module, *_ = arguments
            values = {}
            for key, member in cls.__members__.items():  # type: ignore[attr-defined]
                values[key] = member._value_
                members[key] = {
                    each: value
                    for each, value in getattr(member, "__dict__", {}).items()
                    if each not in classes.ENUM_OWN
                }
                state.pop(key, None)
            arguments = (bases, name, qualname, values, module, classes.class_id(cls))
        else:
            maker = classes.make_class
            metaclass, name, bases, extra, *_ = arguments
            # Not the original ones, which would make a second named tuple of a NamedTuple. The
            # TypedDict among them is a must.
            if type(cls) is not getattr(cloudpickle.typing, "_TypedDictMeta", None):
                bases = cls.__bases__
            for key in ("__slots__", "__orig_bases__"):
                if key in state:
                    extra[key] = state.pop(key)
            arguments = (metaclass, name, qualname, bases, extra, classes.class_id(cls))
        return maker, arguments, (state, members), None, None, self._fill

    def _reduce_named(self, obj: Any, name: str) -> Any:
        """Reduces what reduces itself to its name."""
        if find(self._space, name) is obj and getattr(obj, "__module__", MAIN) == MAIN:
            root = name.partition(".")[0]
            if root not in self._inline:
                self.hard[root] = None
                return name
        else:
            module = sys.modules.get(getattr(obj, "__module__", None) or "")
            if module not in (None, self._main) and find(module.__dict__, name) is obj:
                return name
        typing = sys.modules["typing"]
        if isinstance(obj, functools._lru_cache_wrapper):
            parameters = obj.cache_parameters()
            return (
                loading.make_cached,
                (obj.__wrapped__, parameters["maxsize"], parameters["typed"]),
                {key: value for key, value in vars(obj).items() if key != "__wrapped__"},
            )
        if isinstance(obj, typing.TypeVar):
            options = {"covariant": obj.__covariant__, "contravariant": obj.__contravariant__}
            if obj.__bound__ is not None:
                options["bound"] = obj.__bound__
            if getattr(obj, "__infer_variance__", False):
                options["infer_variance"] = True
            if sys.version_info >= (3, 13) and obj.has_default():
                options["default"] = obj.__default__
            return loading.make_typevar, (name, obj.__constraints__, options, obj.__module__)
        if sys.version_info >= (3, 12) and isinstance(obj, typing.TypeAliasType):
            return loading.make_alias, (name, obj.__value__, obj.__type_params__, obj.__module__)
        if getattr(obj, "__module__", None) != MAIN and "<locals>" not in name:
            return name  # pickle says why not
        return copyreg.__newobj__, (type(obj),), object.__getstate__(obj)  # type: ignore[attr-defined]


# Tried alone, these would pickle their class too.
_MADE_OF_CODE: Any = FunctionType | classmethod | staticmethod | property


def _cloudpickle() -> Any:
    from cloudpickle import cloudpickle

    if not hasattr(cloudpickle, "Pickler"):
        # A signal handler came in the middle of the import, and wants to send something itself.
        raise PicklingError("cloudpickle is being imported at this moment")
    return cloudpickle


@functools.cache
def _more_reducers() -> dict[type, Callable[[Any], Any]]:
    """Reducers of types whose own does not do."""
    import dataclasses
    import typing

    cloudpickle = _cloudpickle()
    more = dict(cloudpickle.Pickler._dispatch_table)
    # Those would give a copy, or its text, for what the stdlib refuses.
    for kind in (memoryview, CellType, typing.TypeVar):
        more.pop(kind, None)
    more[io.TextIOWrapper] = _reduce_file
    more[types.CodeType] = _reduce_code
    more[ModuleType] = _reduce_module
    more[functools.cached_property] = _reduce_cached_property
    # Singletons that cloudpickle copies, or finds only with its own help.
    # By name, for cloudpickle elsewhere may have made copies of it.
    more[type(dataclasses.MISSING)] = lambda _: (getattr, (dataclasses, "MISSING"))
    more[dataclasses._FIELD_BASE] = lambda field: field.name  # type: ignore[attr-defined]
    return more


def _reduce_file(file: Any) -> Any:
    for name in ("stdin", "stdout", "stderr"):
        if file is getattr(sys, name):
            return getattr, (sys, name)
    raise TypeError(f"cannot pickle {type(file).__name__!r} object")


def _reduce_code(code: types.CodeType) -> Any:
    return loading.make_code, (
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_nlocals,
        code.co_stacksize,
        code.co_flags,
        code.co_code,
        code.co_consts,
        code.co_names,
        tuple(code.co_varnames),
        code.co_filename,
        code.co_name,
        code.co_qualname,
        code.co_firstlineno,
        code.co_linetable,
        code.co_exceptiontable,
        tuple(code.co_freevars),
        tuple(code.co_cellvars),
    )


def _reduce_module(module: ModuleType) -> Any:
    if sys.modules.get(module.__name__) is module:
        return loading.load_module, (module.__name__,)
    return _cloudpickle()._module_reduce(module)


def _reduce_cached_property(attribute: Any) -> Any:
    return loading.make_cached_property, (attribute.func, attribute.attrname, attribute.__doc__)
