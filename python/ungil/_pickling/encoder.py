"""What the parent sends: functions and arguments, with the definitions that they need."""

from __future__ import annotations

import _thread
import _weakref
import itertools
import operator
import sys
from _pickle import dumps
from types import ModuleType

from ungil._pickling.guards import Guards, guards_hold
from ungil._pickling.loading import unsent_blob
from ungil._pickling.names import MAIN, NEVER_SENT, NOWHERE, is_importable, modules_by_value
from ungil._pickling.pickler import Pickler, dumps_by_value, dumps_plain

# Type checkers take this name for true; importing typing would slow every worker's start.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ungil import _core
    from ungil._pickling.guards import Guard
    from ungil._pickling.loading import Definition
    from ungil._pickling.pickler import Collector


# Also part of "__mp_main__", under which multiprocessing's own children know the main module.
_MAIN_IN_PICKLE = b"main__"


class Encoder:
    """Pickles functions and arguments in the parent, with the definitions that they need."""

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._ids = itertools.count(1)
        self._last: dict[str, tuple[int, bytes]] = {}
        self._inherited: dict[str, Callable[[], Any]] = {}
        self._known: dict[tuple[str, ...], tuple[tuple[Definition, ...], _core.Guards]] = {}
        # What cannot be guarded, with what it was when that was tried.
        self._unguarded: dict[tuple[str, ...], tuple[Any, ...]] = {}

    def snapshot(self) -> None:
        """Notes what real forks of this process inherit, which then need not travel."""
        space = sys.modules[MAIN].__dict__
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
        if is_importable(function):
            return dumps(function, 5), (), []
        # Before pickling: what another thread changes meanwhile must break them.
        guards = Guards.of(function)
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
        return self.dumps_arguments(value, collector)[:2]

    def dumps_arguments(
        self, value: Any, collector: Collector | None
    ) -> tuple[bytes, tuple[Definition, ...], bool]:
        """Pickles arguments.

        Args:
            value: The arguments.
            collector: What takes buffers out of band, if anything does.

        Returns:
            What ``pickle.loads`` turns into the value, the definitions to apply before, and whether
            the very same definitions will be returned again as long as nothing changes.

        Raises:
            Exception: The value cannot be pickled; what pickle raises.
        """
        data = error = None
        try:
            data = dumps_plain(value, collector)
        except Exception as caught:
            error = caught
        if data is not None:
            if _MAIN_IN_PICKLE not in data:
                return data, (), False
            known = self.known_definitions(data)
            if known is not None:
                return data, known[0], True
        return *self.dumps_by_value(value, collector, error), False

    def dumps_by_value(
        self, value: Any, collector: Collector | None, error: Exception | None
    ) -> tuple[bytes, tuple[Definition, ...]]:
        """Pickles arguments with what no module holds, after plain pickling has not done.

        Args:
            value: The arguments.
            collector: What takes buffers out of band, if anything does.
            error: What plain pickling raised, if it did.

        Raises:
            Exception: The value cannot be pickled; what pickle raises.
        """
        main = sys.modules[MAIN]
        try:
            pickler, data = dumps_by_value(value, collector, main)
            return data, self._define(main, pickler.hard, pickler.soft)
        except Exception as caught:
            if error is None:
                raise
            # The first one is what the stdlib would raise, the second one knows more.
            raise error from caught

    def known_definitions(self, data: bytes) -> tuple[tuple[Definition, ...], _core.Guards] | None:
        """The definitions that a pickle needs which was made without regard to ``__main__``.

        Returns:
            The definitions, for all pickles that name the same globals, as long as the guards hold;
            ``None`` if it may have to be made with regard to ``__main__``, or if what it needs can
            change without notice.
        """
        from ungil import _core

        names = _core.main_globals(data)
        if names == ():
            # The name of the module is only a text.
            return (), _core.Guards([])
        if names is None or modules_by_value():
            return None
        known = self._known.get(names)
        if known is not None and known[1].hold():
            return known
        main = sys.modules[MAIN]
        roots = [name.partition(".")[0] for name in names]
        values = tuple([main.__dict__.get(root, NOWHERE) for root in roots])
        before = self._unguarded.get(names)
        if before is not None and all(map(operator.is_, before, values)):
            return None
        # Before pickling, as with functions.
        guards = Guards.of_names(main, roots)
        if guards is None:
            _remember(self._unguarded, names, values)
            return None
        definitions = self._define(main, roots, ())
        guards.append(Guards.of_modules_by_value())
        if not guards_hold(guards):
            return None
        known = definitions, _core.Guards(guards)
        _remember(self._known, names, known)
        return known

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
            if name in nodes or name in NEVER_SENT:
                continue
            value = main.__dict__.get(name, NOWHERE)
            if value is NOWHERE:
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
                blob = node.blob if node.error is None else unsent_blob(name, node.error)
                last = self._last.get(name)
                if last is None or last[1] != blob:
                    last = self._last[name] = (next(self._ids), blob)
                definitions.append((name, *last))
        return tuple(definitions)


_KNOWN_MAX = 1000


def _remember(memory: dict[Any, Any], key: Any, value: Any) -> None:
    # A program that makes more starts anew.
    if len(memory) >= _KNOWN_MAX:
        memory.clear()
    memory[key] = value


def _reference(value: Any) -> Callable[[], Any]:
    """Gives the very object again, as long as it lives.

    A weak reference where there can be one: an executor that is a global of the script must not
    be kept alive by what it knows of the script.
    """
    try:
        return _weakref.ref(value)
    except TypeError:
        return lambda: value


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
        pickler = Pickler(main, inline=inline | {self.name})
        try:
            try:
                self.blob = pickler.dumps(self.value)
            except Exception:
                if not isinstance(self.value, type):
                    raise
                # A class with, say, a lock is of use without it.
                pickler = Pickler(main, inline=inline | {self.name})
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
