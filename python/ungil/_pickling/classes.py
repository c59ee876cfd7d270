"""The classes that travelled by value, so that a class stays the same one wherever it comes."""

from __future__ import annotations

import _thread
import types

# Type checkers take this name for true; importing typing would slow every worker's start.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any
    from weakref import WeakKeyDictionary, WeakValueDictionary


# What the metaclass gives the members of an enumeration, or caches on them.
ENUM_OWN = frozenset({"_name_", "_value_", "__objclass__", "_sort_order_", "_inverted_"})


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


_registry: _Classes | None = None
_registry_lock = _thread.allocate_lock()


def _classes() -> _Classes:
    global _registry

    if _registry is None:
        # Making it imports something, and another thread may come by then: a cache would make two,
        # and what the one knows the other would make once more.
        made = _Classes()
        with _registry_lock:
            if _registry is None:
                _registry = made
    return _registry


def class_id(cls: type) -> str:
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


def make_class(
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


def make_enum(
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


def fill_new_class(cls: Any, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Gives a class its attributes, unless it is known: then they are its own here."""
    if _classes().filled.get(cls) == set():
        fill_class(cls, state)


def fill_class(cls: Any, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
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
