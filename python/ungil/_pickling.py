"""How functions, arguments and results travel between processes, those of ``__main__`` included.

Worker processes are not forked from the user's process and never run its main script. What an
importable module holds travels by reference, as pickle does it. What ``__main__`` holds travels
by reference too, but together with *definitions*: for each name of ``__main__`` that is needed,
its value. A worker has one ``__main__`` and applies there the definitions that it has not applied
yet, so that functions, the initializer and classes share one namespace as they do in the user's
process.

Workers import this module at their start, so cloudpickle, which takes long to import, is loaded
only where something travels by value, and not to load it again.
"""

from __future__ import annotations

import _thread
import _weakref
import copyreg
import functools
import gc
import io
import itertools
import pickle
import sys
import types
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType

# Type checkers take this name for true; importing typing would slow every worker's start.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Protocol
    from weakref import WeakKeyDictionary, WeakValueDictionary

    Definition = tuple[str, int, bytes]
    """A name of ``__main__``, a number that changes with its content, and the pickled content."""

    Guard = tuple[int, Any, Any, Any]
    """Kind, holder, key and value of something that must not have changed; see `guards_hold`."""

    class Collector(Protocol):
        """Takes buffers out of band."""

        saw_readonly: bool
        saw_shared: bool

        def __call__(self, buffer: pickle.PickleBuffer, /) -> Any: ...

        def reset(self) -> None: ...


_MAIN = "__main__"
# Also part of "__mp_main__", under which multiprocessing's own children know the main module.
_MAIN_IN_PICKLE = b"main__"
# Every module has these of its own.
_NEVER_SENT = frozenset({"__builtins__", "__name__"})
_NOWHERE: Any = object()
_REDUCE: Any = object.__reduce__
_REDUCE_EX: Any = object.__reduce_ex__


class Encoder:
    """Pickles functions and arguments in the parent, with the definitions that they need."""

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._ids = itertools.count(1)
        self._last: dict[str, tuple[int, bytes]] = {}
        self._inherited: dict[str, Callable[[], Any]] = {}

    def snapshot(self) -> None:
        """Notes what real forks of this process inherit, which then need not travel."""
        space = sys.modules[_MAIN].__dict__
        self._inherited = {name: _reference(value) for name, value in space.items()}

    def dumps_function(
        self, function: Callable[..., Any]
    ) -> tuple[bytes, tuple[Definition, ...], list[Guard] | None]:
        """Pickles a task's function.

        Args:
            function: The function, or any other callable.

        Returns:
            What ``pickle.loads`` turns into the function, the definitions to apply before, and
            the guards: as long as they hold, function and definitions need not be pickled again.
            ``None`` if nothing tells whether they have changed.

        Raises:
            Exception: It cannot be pickled; what pickle raises.
        """
        if _is_importable(function):
            return pickle.dumps(function, 5), (), []
        # Before pickling: what another thread changes meanwhile must break them.
        guards = _Guards.of(function)
        data, definitions = self.dumps(function, None)
        if guards is not None and not guards_hold(guards):
            guards = None
        return data, definitions, guards

    def dumps(
        self, value: Any, collector: Collector | None
    ) -> tuple[bytes, tuple[Definition, ...]]:
        """Pickles arguments.

        Args:
            value: The arguments.
            collector: What takes buffers out of band, if anything does.

        Returns:
            What ``pickle.loads`` turns into the value, and the definitions to apply before.

        Raises:
            Exception: The value cannot be pickled; what pickle raises.
        """
        data = error = None
        try:
            data = _plain(value, collector)
        except Exception as caught:
            error = caught
        if data is not None and _MAIN_IN_PICKLE not in data:
            return data, ()
        main = sys.modules[_MAIN]
        try:
            pickler, data = _by_value(value, collector, main)
            return data, self._define(main, pickler.hard, pickler.soft)
        except Exception as caught:
            if error is None:
                raise
            # The first one is what the stdlib would raise, the second one knows more.
            raise error from caught

    def _define(
        self, main: ModuleType, hard: Iterable[str], soft: Iterable[str]
    ) -> tuple[Definition, ...]:
        """The definitions of these names, and all that those need, in the order to apply them.

        Args:
            main: The module.
            hard: The names without which the value cannot even be loaded.
            soft: The names that it may use when it runs.
        """
        nodes: dict[str, _Node] = {}
        pending = [*hard, *soft]
        while pending:
            name = pending.pop()
            if name in nodes or name in _NEVER_SENT:
                continue
            value = main.__dict__.get(name, _NOWHERE)
            if value is _NOWHERE:
                continue
            node = nodes[name] = _Node(main, name, value)
            # What a worker was once told otherwise it does not have by inheritance any more.
            node.is_inherited = (
                name in self._inherited
                and self._inherited[name]() is value
                and name not in self._last
            )
            pending += node.hard
            pending += node.soft

        order = _in_order(main, nodes)
        for name in order:
            node = nodes[name]
            if node.is_inherited:
                node.error = None
            elif node.error is None:
                errors = (nodes[each].error for each in node.hard if each in nodes)
                node.error = next((each for each in errors if each is not None), None)
        for name in hard:
            if name in nodes and (error := nodes[name].error) is not None:
                raise error

        definitions = []
        with self._lock:
            for name in order:
                node = nodes[name]
                if node.is_inherited:
                    continue
                blob = node.blob if node.error is None else _unsent_blob(name, node.error)
                last = self._last.get(name)
                if last is None or last[1] != blob:
                    last = self._last[name] = (next(self._ids), blob)
                definitions.append((name, *last))
        return tuple(definitions)


def _reference(value: Any) -> Callable[[], Any]:
    """Gives the very object again, as long as it lives.

    A weak reference where there can be one: an executor that is a global of the script must not
    be kept alive by what it knows of the script.
    """
    try:
        return _weakref.ref(value)
    except TypeError:
        return lambda: value


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
                value = pickle.loads(blob)
            except Exception as error:
                value = _Unsent(name, f"loading it there failed with {_describe(error)}")
            # The initializer may have made what could not be sent.
            if type(value) is not _Unsent or name not in self._space:
                self._space[name] = value
            self._applied[name] = number


def dumps_result(value: Any, collector: Collector | None) -> bytes:
    """Pickles a result in a worker.

    Args:
        value: The result.
        collector: What takes buffers out of band, if anything does.

    Raises:
        Exception: The value cannot be pickled; what pickle raises.
    """
    try:
        return _plain(value, collector)
    except Exception as error:
        try:
            return _by_value(value, collector, sys.modules[_MAIN], is_result=True)[1]
        except Exception as caught:
            raise error from caught


def guards_hold(guards: Iterable[Guard]) -> bool:
    """Whether nothing has changed that guards watch.

    Args:
        guards: Tuples of kind, holder, key and value. 0: ``holder``, a dict, has ``value`` under
            ``key``, or lacks it if that is ``None``. 1: the attribute ``key`` of ``holder`` is
            ``value``. 2: ``holder.__dict__`` has ``value`` items.
    """
    for kind, holder, key, value in guards:
        if kind == 0:
            if holder.get(key) is not value:
                return False
        elif kind == 1:
            if getattr(holder, key, _NOWHERE) is not value:
                return False
        elif len(holder.__dict__) != value:
            return False
    return True


def _plain(value: Any, collector: Collector | None) -> bytes:
    """Pickles as the standard library does between processes."""
    data = _dumps(value, 5, collector)
    if collector is None or not _needs_copies(collector):
        return data
    collector.reset()
    try:
        return _dumps(value, 4, None)
    except pickle.PicklingError:
        return _dumps(value, 5, None)


def _needs_copies(collector: Collector) -> bool:
    """Whether everything shall be pickled in band.

    With buffers, a read-only array stays one; the stdlib's workers get a writable copy. But that is
    no reason to copy also what is shared, which is the one thing that copies cannot be.
    """
    return collector.saw_readonly and not collector.saw_shared


def _dumps(value: Any, protocol: int, collector: Collector | None) -> bytes:
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol, buffer_callback=collector)
    pickler.dispatch_table = _dispatch_table()
    pickler.dump(value)
    return file.getvalue()


_known_reducers: dict[type, Any] = {}
_known_counts = (-1, -1)


def _dispatch_table() -> dict[type, Any]:
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


def _by_value(
    value: Any, collector: Collector | None, main: ModuleType, is_result: bool = False
) -> tuple[_Pickler, bytes]:
    """Pickles also what no module holds."""
    if collector is None:
        pickler = _Pickler(main, is_result=is_result)
        return pickler, pickler.dumps(value)
    collector.reset()
    pickler = _Pickler(main, collector=collector, is_result=is_result)
    data = pickler.dumps(value)
    if not _needs_copies(collector):
        return pickler, data
    collector.reset()
    try:
        pickler = _Pickler(main, protocol=4, is_result=is_result)
        return pickler, pickler.dumps(value)
    except pickle.PicklingError:
        pickler = _Pickler(main, is_result=is_result)
        return pickler, pickler.dumps(value)


class _Node:
    """A name of ``__main__`` and what it needs.

    Attributes:
        blob: Its pickled value.
        error: Why it cannot be pickled.
        hard: The names without which it cannot be loaded.
        soft: The names that functions in it may use when they run.
        is_inherited: Whether workers have it anyway.
    """

    def __init__(self, main: ModuleType, name: str, value: Any) -> None:
        self.name = name
        self.value = value
        self.error: Exception | None = None
        self.is_inherited = False
        self.pickle(main, frozenset())

    def pickle(self, main: ModuleType, inline: frozenset[str]) -> None:
        """Pickles it, with what these names hold by value."""
        pickler = _Pickler(main, inline=inline | {self.name})
        try:
            try:
                self.blob = pickler.dumps(self.value)
            except Exception:
                if not isinstance(self.value, type):
                    raise
                # A class with, say, a lock is of use without it.
                pickler = _Pickler(main, inline=inline | {self.name})
                pickler.leave_out(self.value)
                self.blob = pickler.dumps(self.value)
            self.hard = pickler.hard
            self.soft = pickler.soft
        except Exception as error:
            self.error = error
            self.blob = b""
            self.hard = {}
            self.soft = {}


def _in_order(main: ModuleType, nodes: dict[str, _Node]) -> list[str]:
    """The names, each after those without which it cannot be loaded.

    Also after those that its functions use, as far as that is possible: loading a value may run
    them.
    """
    for group in _components(nodes, lambda name: nodes[name].hard):
        # Sorted: their blobs must not depend on which of them is asked for. The first has all
        # others by value inside, the last refers to all.
        group.sort()
        for at, name in enumerate(group[:-1]):
            nodes[name].pickle(main, frozenset(group[at + 1 :]))
    order: list[str] = []
    for group in _components(nodes, lambda name: (*nodes[name].hard, *nodes[name].soft)):
        if len(group) > 1:
            members = {name: nodes[name] for name in group}
            for part in _components(members, lambda name: nodes[name].hard):
                order += part
        else:
            order += group
    return order


def _components(nodes: Iterable[str], edges: Callable[[str], Iterable[str]]) -> Iterator[list[str]]:
    """The strongly connected components of a graph, each after those that it leads to.

    Tarjan's algorithm, without recursion.
    """
    known = set(nodes)
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    for start in nodes:
        if start in number:
            continue
        path = [(start, iter(edges(start)))]
        number[start] = low[start] = len(number)
        stack.append(start)
        on_stack.add(start)
        while path:
            name, following = path[-1]
            for other in following:
                if other not in known:
                    continue
                if other not in number:
                    number[other] = low[other] = len(number)
                    stack.append(other)
                    on_stack.add(other)
                    path.append((other, iter(edges(other))))
                    break
                if other in on_stack:
                    low[name] = min(low[name], number[other])
            else:
                path.pop()
                if path:
                    above = path[-1][0]
                    low[above] = min(low[above], low[name])
                if low[name] == number[name]:
                    at = stack.index(name)
                    component = stack[at:]
                    del stack[at:]
                    on_stack.difference_update(component)
                    yield component


def _is_importable(thing: Any) -> bool:
    """Whether it is a function or class that another process can import."""
    kind = type(thing)
    if kind is not FunctionType and kind is not BuiltinFunctionType and not isinstance(thing, type):
        return False
    module_name = getattr(thing, "__module__", None)
    qualname = getattr(thing, "__qualname__", None)
    if type(module_name) is not str or type(qualname) is not str or module_name == _MAIN:
        return False
    modules = sys.modules
    found: Any = modules.get(module_name)
    if found is None or found is modules[_MAIN] or _travels_by_value(module_name):
        return False
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found is thing


def _travels_by_value(module_name: str) -> bool:
    """Whether the user told cloudpickle so about a module."""
    cloudpickle = sys.modules.get("cloudpickle")
    # Another thread may be importing it just now.
    registry = getattr(cloudpickle, "list_registry_pickle_by_value", None)
    registered = registry() if registry is not None else ()
    return bool(registered) and any(
        module_name == each or module_name.startswith(f"{each}.") for each in registered
    )


def _find(space: dict[str, Any], qualname: Any) -> Any:
    """What a namespace has under a dotted name."""
    if type(qualname) is not str:
        return _NOWHERE
    root, *parts = qualname.split(".")
    found = space.get(root, _NOWHERE)
    for part in parts:
        if found is _NOWHERE:
            break
        found = getattr(found, part, _NOWHERE)
    return found


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


# ---------------------------------------------------------------------------------------------
# Pickling by value
# ---------------------------------------------------------------------------------------------


class _Pickler(pickle.Pickler):
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
        self.dispatch_table = {**_dispatch_table(), **_reducers()}
        self.hard: dict[str, None] = {}
        self.soft: dict[str, None] = {}
        self._main = main
        self._space = main.__dict__
        self._protocol = protocol
        self._inline = inline
        self._fill = _fill_new_class if is_result else _fill_class
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
                _Pickler(self._main, inline=self._inline).dumps(value)
            except Exception as error:
                self._left_out[key] = _UnsentMaker(f"{cls.__qualname__}.{key}", _describe(error))

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
        if name != _MAIN and (type(name) is not str or sys.modules.get(name) is not self._main):
            return False
        return _find(self._space, qualname) is obj

    def _refer(self, obj: Any, qualname: str) -> Any:
        """Reduces it to its name in ``__main__``, ``None`` if it has to travel by value."""
        root = qualname.partition(".")[0]
        if root in self._inline:
            return None
        self.hard[root] = None
        if obj.__module__ != _MAIN:
            return _find_in_main, (qualname,)
        return qualname

    def _reduce_function(self, function: FunctionType) -> Any:
        if self._is_in_main(function, function.__qualname__):
            referred = self._refer(function, function.__qualname__)
            if referred is not None:
                return referred
        elif _is_importable(function):
            return NotImplemented
        space = function.__globals__
        code = function.__code__
        names = _global_names(code)
        copied: dict[str, Any] | None = None
        home: str | dict[str, Any] | None = self._home(space)
        if home == _MAIN:
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
            contents = list(_contents(closure))
        modules = [value for name in names if isinstance(value := space.get(name), ModuleType)]
        modules += [value for _, value in contents if isinstance(value, ModuleType)]
        attributes: dict[str, Any] = {"__qualname__": function.__qualname__}
        for key in ("__module__", "__doc__", "__defaults__", "__kwdefaults__"):
            attributes[key] = getattr(function, key)
        attributes["__annotations__"] = _annotations(function)
        state = (attributes, dict(function.__dict__), contents, copied, _submodules(code, modules))
        return (
            _make_function,
            (code, home, function.__name__, closure),
            state,
            None,
            None,
            _fill_function,
        )

    def _home(self, space: dict[str, Any]) -> str | None:
        """The module that workers have and of which these are the globals."""
        if space is self._space:
            return _MAIN
        return _importable_home(space)

    def _reduce_cell(self, cell: CellType) -> Any:
        if id(cell) in self._closure_cells:
            return _make_cell, ()  # the function fills it, after it was made itself
        contents = [value for _, value in _contents((cell,))]
        return _make_cell, (), contents, None, None, _fill_cell

    def _reduce_class(self, cls: type) -> Any:
        qualname = getattr(cls, "__qualname__", None)
        if self._is_in_main(cls, qualname):
            referred = self._refer(cls, str(qualname))
            if referred is not None:
                return referred
        elif _is_importable(cls):
            return NotImplemented
        cloudpickle = _cloudpickle()
        if cls in cloudpickle._BUILTIN_TYPE_NAMES:
            return _builtin_type, (cloudpickle._BUILTIN_TYPE_NAMES[cls],)
        if cloudpickle._should_pickle_by_reference(cls) or not _is_heap_type(cls):
            return NotImplemented
        _, arguments, (state, _), *_ = cloudpickle._dynamic_class_reduce(cls)
        # Caches: they come to be when an instance is pickled, or annotations are looked at.
        state.pop("__slotnames__", None)
        state.pop("__annotations_cache__", None)
        if cls.__dict__.get("__annotate_func__") is not None:
            state["__annotations__"] = _annotations(cls)
        if cls is self._lacking:
            state.update({key: self._left_out[key] for key in state if key in self._left_out})
        members: dict[str, Any] = {}
        maker: Callable[..., type]
        if issubclass(cls, cloudpickle.Enum):
            maker = _make_enum
            bases, name, _, _, module, *_ = arguments
            values = {}
            for key, member in cls.__members__.items():  # type: ignore[attr-defined]
                values[key] = member._value_
                members[key] = {
                    each: value
                    for each, value in getattr(member, "__dict__", {}).items()
                    if each not in _ENUM_OWN
                }
                state.pop(key, None)
            arguments = (bases, name, qualname, values, module, _class_id(cls))
        else:
            maker = _make_class
            metaclass, name, bases, extra, *_ = arguments
            # Not the original ones, which would make a second named tuple of a NamedTuple. The
            # TypedDict among them is a must.
            if type(cls) is not getattr(cloudpickle.typing, "_TypedDictMeta", None):
                bases = cls.__bases__
            for key in ("__slots__", "__orig_bases__"):
                if key in state:
                    extra[key] = state.pop(key)
            arguments = (metaclass, name, qualname, bases, extra, _class_id(cls))
        return maker, arguments, (state, members), None, None, self._fill

    def _reduce_named(self, obj: Any, name: str) -> Any:
        """Reduces what reduces itself to its name."""
        if _find(self._space, name) is obj and getattr(obj, "__module__", _MAIN) == _MAIN:
            root = name.partition(".")[0]
            if root not in self._inline:
                self.hard[root] = None
                return name
        else:
            module = sys.modules.get(getattr(obj, "__module__", None) or "")
            if module not in (None, self._main) and _find(module.__dict__, name) is obj:
                return name
        typing = sys.modules["typing"]
        if isinstance(obj, functools._lru_cache_wrapper):
            parameters = obj.cache_parameters()
            return (
                _make_cached,
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
            return _make_typevar, (name, obj.__constraints__, options, obj.__module__)
        if sys.version_info >= (3, 12) and isinstance(obj, typing.TypeAliasType):
            return _make_alias, (name, obj.__value__, obj.__type_params__, obj.__module__)
        if getattr(obj, "__module__", None) != _MAIN and "<locals>" not in name:
            return name  # pickle says why not
        return copyreg.__newobj__, (type(obj),), object.__getstate__(obj)  # type: ignore[attr-defined]


# What the metaclass gives the members of an enumeration, or caches on them.
_ENUM_OWN = frozenset({"_name_", "_value_", "__objclass__", "_sort_order_", "_inverted_"})


# Tried alone, these would pickle their class too.
_MADE_OF_CODE: Any = FunctionType | classmethod | staticmethod | property


def _is_heap_type(cls: type) -> bool:
    """Whether a class statement made it, not C."""
    return bool(cls.__flags__ & 1 << 9)


def _importable_home(space: dict[str, Any]) -> str | None:
    """The importable module of which these are the globals."""
    name = space.get("__name__")
    if type(name) is not str or name == _MAIN:
        return None
    module = sys.modules.get(name)
    # What has no spec was not imported and may not be found by a worker.
    if (
        module is None
        or getattr(module, "__dict__", None) is not space
        or getattr(module, "__spec__", None) is None
        or _travels_by_value(name)
    ):
        return None
    return name


def _cloudpickle() -> Any:
    from cloudpickle import cloudpickle

    if not hasattr(cloudpickle, "Pickler"):
        # A signal handler came in the middle of the import, and wants to send something itself.
        raise pickle.PicklingError("cloudpickle is being imported at this moment")
    return cloudpickle


@functools.cache
def _reducers() -> dict[type, Callable[[Any], Any]]:
    """Reducers of types whose own does not do."""
    import dataclasses
    import typing

    cloudpickle = _cloudpickle()
    reducers = dict(cloudpickle.Pickler._dispatch_table)
    # Those would give a copy, or its text, for what the stdlib refuses.
    for kind in (memoryview, CellType, typing.TypeVar):
        reducers.pop(kind, None)
    reducers[io.TextIOWrapper] = _reduce_file
    reducers[types.CodeType] = _reduce_code
    reducers[ModuleType] = _reduce_module
    reducers[functools.cached_property] = _reduce_cached_property
    # Singletons that cloudpickle copies, or finds only with its own help.
    # By name, for cloudpickle elsewhere may have made copies of it.
    reducers[type(dataclasses.MISSING)] = lambda _: (getattr, (dataclasses, "MISSING"))
    reducers[dataclasses._FIELD_BASE] = lambda field: field.name  # type: ignore[attr-defined]
    return reducers


def _reduce_file(file: Any) -> Any:
    for name in ("stdin", "stdout", "stderr"):
        if file is getattr(sys, name):
            return getattr, (sys, name)
    raise TypeError(f"cannot pickle {type(file).__name__!r} object")


def _reduce_code(code: types.CodeType) -> Any:
    return _make_code, (
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
        return _import, (module.__name__,)
    return _cloudpickle()._module_reduce(module)


def _reduce_cached_property(attribute: Any) -> Any:
    return _make_cached_property, (attribute.func, attribute.attrname, attribute.__doc__)


def _contents(cells: Iterable[CellType]) -> Iterator[tuple[int, Any]]:
    """Position and content of the cells that have one."""
    for at, cell in enumerate(cells):
        try:
            yield at, cell.cell_contents
        except ValueError:
            continue


def _annotations(thing: Any) -> dict[str, Any]:
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


def _global_names(code: types.CodeType) -> frozenset[str]:
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
            names |= _global_names(constant)
    if len(_known_names) > 10_000:
        _known_names.clear()
    found = frozenset(names)
    _known_names[id(code)] = code, found
    return found


@functools.cache
def _extended_arg() -> int:
    import opcode

    return opcode.opmap["EXTENDED_ARG"]


def _names(code: types.CodeType) -> set[str]:
    """All names in a function, attributes included."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


def _submodules(code: types.CodeType, modules: list[ModuleType]) -> list[str]:
    """The imported submodules that a function can reach as attributes of their packages."""
    if not modules:
        return []
    found: dict[str, None] = {}
    names = _names(code)
    packages = [module.__name__ for module in modules]
    while packages:
        package = packages.pop()
        for name in names:
            full = f"{package}.{name}"
            if full not in found and full in sys.modules:
                found[full] = None
                packages.append(full)
    return sorted(found)


# ---------------------------------------------------------------------------------------------
# Loading what was pickled by value; pickles name these functions
# ---------------------------------------------------------------------------------------------


def _find_in_main(qualname: str) -> Any:
    found = _find(sys.modules[_MAIN].__dict__, qualname)
    if found is _NOWHERE:
        raise AttributeError(f"module '__main__' has no attribute {qualname!r}")
    return found


def _import(name: str) -> ModuleType:
    __import__(name)
    return sys.modules[name]


def _builtin_type(name: str) -> Any:
    return getattr(types, name)


def _make_code(*arguments: Any) -> types.CodeType:
    return types.CodeType(*arguments)


def _make_cell() -> CellType:
    return CellType()


def _fill_cell(cell: CellType, contents: list[Any]) -> None:
    for value in contents:
        cell.cell_contents = value


def _make_function(
    code: types.CodeType,
    home: str | dict[str, Any],
    name: str,
    closure: tuple[CellType, ...] | None,
) -> FunctionType:
    space = _import(home).__dict__ if type(home) is str else home
    assert type(space) is dict
    space.setdefault("__builtins__", __builtins__)
    return FunctionType(code, space, name, None, closure)


def _fill_function(function: FunctionType, state: tuple[Any, ...]) -> None:
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


def _make_cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def _make_cached_property(function: Callable[..., Any], name: str | None, doc: str | None) -> Any:
    made: Any = functools.cached_property(function)
    made.attrname = name
    made.__doc__ = doc
    return made


def _make_typevar(
    name: str, constraints: tuple[Any, ...], options: dict[str, Any], module: str
) -> Any:
    import typing

    made: Any = typing.TypeVar(name, *constraints, **options)  # type: ignore[misc]
    made.__module__ = module  # of its own, it has that of who calls
    return made


def _make_alias(name: str, value: Any, parameters: tuple[Any, ...], module: str) -> Any:
    import typing

    space = {"__name__": module, "make": typing.TypeAliasType}  # type: ignore[attr-defined]
    space |= {"name": name, "value": value, "parameters": parameters}
    # Its module is that of who calls, and cannot be changed.
    return eval("make(name, value, type_params=parameters)", space)


class _Classes:
    """The classes that travelled by value, so that a class stays the same one wherever it comes.

    Attributes:
        by_id: Those that exist here.
        ids: The same the other way round.
        filled: The names of the attributes that a class made here was given.
    """

    def __init__(self) -> None:
        from weakref import WeakKeyDictionary, WeakValueDictionary

        self.by_id: WeakValueDictionary[str, type] = WeakValueDictionary()
        self.ids: WeakKeyDictionary[type, str] = WeakKeyDictionary()
        self.filled: WeakKeyDictionary[type, set[str]] = WeakKeyDictionary()
        self.lock = _thread.allocate_lock()


@functools.cache
def _classes() -> _Classes:
    return _Classes()


def _class_id(cls: type) -> str:
    """What a class is called in pickles, whichever process it was made in."""
    import os

    classes = _classes()
    with classes.lock:
        number = classes.ids.get(cls)
        if number is None:
            number = classes.ids[cls] = os.urandom(16).hex()
            classes.by_id[number] = cls
    return number


def _known_class(number: str, make: Callable[[], type]) -> type:
    """The class with this id, a new and empty one if there is none."""
    classes = _classes()
    cls = classes.by_id.get(number)
    if cls is None:
        made = make()
        with classes.lock:
            cls = classes.by_id.setdefault(number, made)
            classes.ids[cls] = number
            classes.filled.setdefault(cls, set())
    return cls


def _hear_nothing(cls: type, /, **_: Any) -> None:
    """Replaces ``__init_subclass__``."""


def _make_class(
    metaclass: type,
    name: str,
    qualname: str,
    bases: tuple[Any, ...],
    namespace: dict[str, Any],
    number: str,
) -> type:
    def make() -> type:
        real = types.resolve_bases(bases)
        # It ran where the class was defined, perhaps with arguments that are not known here. That
        # of typing has to run again, and may.
        hearing = {
            each: each.__dict__["__init_subclass__"]
            for base in real
            for each in base.__mro__[:-1]
            if "__init_subclass__" in each.__dict__ and each.__module__ != "typing"
        }
        for each in hearing:
            each.__init_subclass__ = classmethod(_hear_nothing)
        try:
            made: type = types.new_class(
                name, real, {"metaclass": metaclass}, lambda space: space.update(namespace)
            )
        finally:
            for each, method in hearing.items():
                each.__init_subclass__ = method
        made.__qualname__ = qualname
        return made

    return _known_class(number, make)


def _make_enum(
    bases: tuple[type, ...],
    name: str,
    qualname: str,
    members: dict[str, Any],
    module: str,
    number: str,
) -> type:
    def make() -> type:
        metaclass: Any = type(bases[-1])
        space = metaclass.__prepare__(name, bases)
        for key, value in members.items():
            space[key] = value
        made: type = metaclass.__new__(metaclass, name, bases, space)
        made.__module__ = module
        made.__qualname__ = qualname
        return made

    return _known_class(number, make)


def _fill_new_class(cls: Any, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Gives a class its attributes, unless it is known: then they are its own here."""
    if _classes().filled.get(cls) == set():
        _fill_class(cls, state)


def _fill_class(cls: Any, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Gives a class its attributes and takes those that it lost."""
    attributes, members = state
    filled = _classes().filled
    for name in filled.get(cls, set()) - attributes.keys():
        if name in cls.__dict__:
            delattr(cls, name)
    for name, value in attributes.items():
        if name == "_abc_impl":
            for each in value:
                cls.register(each)
        else:
            setattr(cls, name, value)
    if "__firstlineno__" in attributes:  # setting others deletes it
        cls.__firstlineno__ = attributes["__firstlineno__"]
    for name, more in members.items():
        if more:
            cls.__members__[name].__dict__.update(more)
    if cls in filled:
        filled[cls] = set(attributes) | {""}


# ---------------------------------------------------------------------------------------------
# What cannot travel
# ---------------------------------------------------------------------------------------------


class _Unsent:
    """Stands in a worker for a global that could not be sent; using it says so."""

    __slots__ = ("_name", "_reason")

    def __init__(self, name: str, reason: str) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_reason", reason)

    def __repr__(self) -> str:
        return f"<{object.__getattribute__(self, '_name')}, which could not be sent here>"


def _raise_unsent(self: _Unsent, *_: Any, **__: Any) -> Any:
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
        setattr(_Unsent, f"__{name}__", _raise_unsent)
    for name in _SPECIAL.split():
        setattr(_Unsent, f"__{name}__", _raise_unsent)


_make_unusable()


class _UnsentMaker:
    """Pickles as what becomes an `_Unsent` when it is loaded."""

    def __init__(self, name: str, reason: str) -> None:
        self._arguments = (name, reason)

    def __reduce__(self) -> Any:
        return _Unsent, self._arguments


def _unsent_blob(name: str, error: Exception) -> bytes:
    return pickle.dumps(_UnsentMaker(name, _describe(error)), 5)


# ---------------------------------------------------------------------------------------------
# Guards
# ---------------------------------------------------------------------------------------------


class _CannotGuard(Exception):
    """Something is needed that can change without notice."""


_IMMUTABLE = frozenset(
    {type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented)}
)
_DESCRIPTORS = frozenset(
    {
        types.GetSetDescriptorType,
        types.MemberDescriptorType,
        types.WrapperDescriptorType,
        types.MethodDescriptorType,
        types.ClassMethodDescriptorType,
    }
)
# Attributes of classes that do not travel, or that only tell what annotations say.
_CLASS_ANNOTATIONS = frozenset({"__annotations__", "__annotations_cache__"})
_CLASS_IGNORED = frozenset({"__annotate_func__", "__dict__", "__weakref__", "__slotnames__"})


class _Guards:
    """Watches everything that pickling a function of ``__main__`` depends on."""

    def __init__(self, main: ModuleType) -> None:
        self.found: list[Guard] = []
        self._main = main
        self._space = main.__dict__
        self._seen: dict[int, Any] = {}
        self._names: set[str] = set()

    @classmethod
    def of(cls, function: Any) -> list[Guard] | None:
        """The guards of a function of ``__main__``, ``None`` if it cannot be guarded."""
        main = sys.modules[_MAIN]
        if type(function) is not FunctionType and not isinstance(function, type):
            return None
        if _find(main.__dict__, getattr(function, "__qualname__", None)) is not function:
            return None
        guards = cls(main)
        try:
            guards._thing(function)
        except _CannotGuard:
            return None
        return guards.found

    def _add(self, kind: int, holder: Any, key: Any, value: Any) -> None:
        self.found.append((kind, holder, key, value))

    def _value(self, value: Any) -> None:
        kind = type(value)
        if kind in _IMMUTABLE or kind is ModuleType:
            return
        if kind is FunctionType or isinstance(value, type):
            self._thing(value)
        elif kind is tuple or kind is frozenset:
            for each in value:
                self._value(each)
        elif kind is BuiltinFunctionType:
            if not _is_importable(value):
                raise _CannotGuard
        else:
            self._annotation(value)

    def _annotation(self, value: Any) -> None:
        """Guards what is immutable by its meaning: the types that hints are made of."""
        kind = type(value)
        if kind in _IMMUTABLE:
            return
        import typing

        hints = types.GenericAlias | types.UnionType | typing._GenericAlias  # type: ignore[attr-defined]
        if isinstance(value, hints):
            self._value(getattr(value, "__origin__", None))
            self._value(value.__args__)
            self._value(getattr(value, "__metadata__", None))
        elif kind is typing.TypeVar:
            self._value(value.__bound__)
            self._value(value.__constraints__)
        elif kind is not typing._SpecialForm:
            raise _CannotGuard

    def _thing(self, thing: Any) -> None:
        """Guards a function or class."""
        if id(thing) in self._seen:
            return
        self._seen[id(thing)] = thing
        if _is_importable(thing) or (isinstance(thing, type) and not _is_heap_type(thing)):
            return
        if thing.__module__ == _MAIN:
            self._name(thing.__qualname__.partition(".")[0])
        if type(thing) is FunctionType:
            self._function(thing)
        else:
            self._class(thing)

    def _name(self, name: str) -> None:
        """Guards a name of ``__main__``."""
        if name in self._names or name in _NEVER_SENT:
            return
        self._names.add(name)
        value = self._space.get(name, _NOWHERE)
        if value is not _NOWHERE:
            self._add(0, self._space, name, value)
            self._value(value)
            return
        self._add(0, self._space, name, None)
        import builtins

        # The name may come to mean None, which the guard above would not tell from nothing.
        if not hasattr(builtins, name) and "<" not in name:
            self._add(2, self._main, None, len(self._space))

    def _function(self, function: FunctionType) -> None:
        code = function.__code__
        space = function.__globals__
        modules: list[ModuleType] = []
        if space is self._space:
            names = _global_names(code)
            for name in sorted(names):
                self._name(name)
            if space.get("__package__"):
                self._name("__package__")
            modules = [value for name in names if type(value := space.get(name)) is ModuleType]
        elif _importable_home(space) is None:
            raise _CannotGuard
        for key in (
            *("__code__", "__defaults__", "__kwdefaults__", "__name__", "__qualname__"),
            *("__module__", "__doc__"),
        ):
            self._add(1, function, key, getattr(function, key))
        self._value(function.__defaults__)
        defaults = function.__kwdefaults__
        if defaults is not None:
            first = code.co_argcount
            for name in code.co_varnames[first : first + code.co_kwonlyargcount]:
                self._add(0, defaults, name, defaults.get(name))
                self._value(defaults.get(name))
        if sys.version_info < (3, 14):
            self._add(1, function, "__annotations__", function.__annotations__)
        for value in _annotations(function).values():
            self._value(value)
        for cell in function.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:
                raise _CannotGuard from None
            self._add(1, cell, "cell_contents", value)
            self._value(value)
            if type(value) is ModuleType:
                modules.append(value)
        attributes = function.__dict__
        self._add(2, function, None, len(attributes))
        if attributes:
            self._add(1, function, "__dict__", attributes)
        for name, value in list(attributes.items()):
            self._add(0, attributes, name, value)
            self._value(value)
        self._submodules(code, modules)

    def _submodules(self, code: types.CodeType, modules: list[ModuleType]) -> None:
        """Guards against submodules that are imported later."""
        names = _names(code)
        packages = [module for module in modules if hasattr(module, "__path__")]
        while packages:
            package = packages.pop()
            for name in sorted(names):
                full = f"{package.__name__}.{name}"
                module = sys.modules.get(full)
                if module is None:
                    if name not in package.__dict__:
                        self._add(0, sys.modules, full, None)
                elif id(module) not in self._seen:
                    self._seen[id(module)] = module
                    if hasattr(module, "__path__"):
                        packages.append(module)

    def _class(self, cls: Any) -> None:
        metaclass = type(cls)
        # What registers with an abstract class leaves no trace that could be guarded.
        if metaclass is not type and (
            not _is_importable(metaclass) or metaclass.__module__ in {"abc", "enum", "typing"}
        ):
            raise _CannotGuard
        if "__annotate_func__" in cls.__dict__:
            _annotations(cls)  # which pickling does too, and it leaves something in the dict
        # The dict itself: of the read-only view, nobody promises that it has get.
        (attributes,) = gc.get_referents(cls.__dict__)
        if type(attributes) is not dict:
            raise _CannotGuard
        self._add(1, cls, "__bases__", cls.__bases__)
        self._add(1, cls, "__qualname__", cls.__qualname__)
        self._add(2, cls, None, len(attributes))
        for base in cls.__bases__:
            self._value(base)
        for name, value in list(attributes.items()):
            self._add(0, attributes, name, value)
            if name in _CLASS_IGNORED:
                continue
            kind = type(value)
            if kind is staticmethod or kind is classmethod:
                self._value(value.__func__)
            elif kind is property:
                self._value((value.fget, value.fset, value.fdel))
            elif name in _CLASS_ANNOTATIONS and kind is dict:
                for each in value.values():
                    self._value(each)
            elif kind not in _DESCRIPTORS:
                self._value(value)
