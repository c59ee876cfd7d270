"""What must not have changed for something written down to be still what it was."""

from __future__ import annotations

import gc
import sys
import types
from types import BuiltinFunctionType, FunctionType, ModuleType

from ungil._pickling.classes import ENUM_OWN
from ungil._pickling.names import (
    MAIN,
    NEVER_SENT,
    NOWHERE,
    annotations_of,
    find,
    globals_of,
    importable_home,
    is_heap_type,
    is_importable,
    names_in,
)

# Type checkers take this name for true; importing typing would slow every worker's start.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Guard = tuple[int, Any, Any, Any]
    """Kind, holder, key and value of something that must not have changed; see `guards_hold`."""


def guards_hold(guards: Iterable[Guard]) -> bool:
    """Whether nothing has changed that guards watch.

    Args:
        guards: Tuples of kind, holder, key and value. 0: ``holder``, a dict, has ``value`` under
            ``key``. 1: the attribute ``key`` of ``holder`` is ``value``. 2: ``holder.__dict__`` has
            ``value`` items. 3: ``holder`` has. 4: ``holder``, a dict, lacks ``key``.
    """
    for kind, holder, key, value in guards:
        if kind == 0:
            if holder.get(key, NOWHERE) is not value:
                return False
        elif kind == 4:
            if key in holder:
                return False
        elif kind == 1:
            if getattr(holder, key, NOWHERE) is not value:
                return False
        elif len(holder.__dict__ if kind == 2 else holder) != value:
            return False
    return True


class _CannotGuard(Exception):
    """Something is needed that can change without notice."""


_IMMUTABLE = frozenset(
    {type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented)}
)
_SENTINELS = frozenset(
    ("dataclasses", each)
    for each in ("_MISSING_TYPE", "_HAS_DEFAULT_FACTORY_CLASS", "_KW_ONLY_TYPE", "_FIELD_BASE")
)
_CHANGING = frozenset({set, list, dict})
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
_ENUM_TABLES = frozenset(
    {
        *("_member_names_", "_member_map_", "_value2member_map_"),
        *("_hashable_values_", "_unhashable_values_", "_unhashable_values_map_"),
    }
)


class Guards:
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
        main = sys.modules[MAIN]
        if type(function) is not FunctionType and not isinstance(function, type):
            return None
        if find(main.__dict__, getattr(function, "__qualname__", None)) is not function:
            return None
        guards = cls(main)
        try:
            guards._thing(function)
        except _CannotGuard:
            return None
        return guards.found

    @classmethod
    def of_names(cls, main: ModuleType, names: Iterable[str]) -> list[Guard] | None:
        """The guards of names of ``__main__``, ``None`` if they cannot be guarded."""
        guards = cls(main)
        try:
            for name in names:
                guards._name(name)
        except _CannotGuard:
            return None
        return guards.found

    @staticmethod
    def of_modules_by_value() -> Guard:
        """Watches that no module is to travel by value."""
        cloudpickle = sys.modules.get("cloudpickle.cloudpickle")
        if cloudpickle is None:
            return 4, sys.modules, "cloudpickle.cloudpickle", None
        return 3, cloudpickle._PICKLE_BY_VALUE_MODULES, None, 0

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
            # Or a method of a class of C's, which nobody can change either.
            owner = value.__self__
            if not is_importable(value) and (not isinstance(owner, type) or is_heap_type(owner)):
                raise _CannotGuard
        elif kind in _CHANGING:
            # Nothing is in it as long as it is empty. What makes the repr of a dataclass has one.
            if value:
                raise _CannotGuard
            self._add(3, value, None, 0)
        else:
            self._annotation(value)

    def _annotation(self, value: Any) -> None:
        """Guards what is immutable by its meaning: the types that hints are made of, sentinels."""
        kind = type(value)
        if kind in _IMMUTABLE or (kind.__module__, kind.__qualname__) in _SENTINELS:
            return
        enum: Any = sys.modules.get("enum")
        if enum is not None and isinstance(value, enum.Enum) and is_importable(kind):
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
        if is_importable(thing) or (isinstance(thing, type) and not is_heap_type(thing)):
            return
        if thing.__module__ == MAIN:
            self._name(thing.__qualname__.partition(".")[0])
        if type(thing) is FunctionType:
            self._function(thing)
        else:
            self._class(thing)

    def _name(self, name: str) -> None:
        """Guards a name of ``__main__``."""
        if name in self._names or name in NEVER_SENT:
            return
        self._names.add(name)
        value = self._space.get(name, NOWHERE)
        if value is not NOWHERE:
            self._add(0, self._space, name, value)
            self._value(value)
            return
        self._add(4, self._space, name, None)

    def _function(self, function: FunctionType) -> None:
        code = function.__code__
        space = function.__globals__
        modules: list[ModuleType] = []
        if space is self._space:
            names = globals_of(code)
            for name in sorted(names):
                self._name(name)
            if space.get("__package__"):
                self._name("__package__")
            modules = [value for name in names if type(value := space.get(name)) is ModuleType]
        elif importable_home(space) is None:
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
                if name in defaults:
                    self._add(0, defaults, name, defaults[name])
                    self._value(defaults[name])
                else:
                    self._add(4, defaults, name, None)
        if sys.version_info < (3, 14):
            self._add(1, function, "__annotations__", function.__annotations__)
        for value in annotations_of(function).values():
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
        names = names_in(code)
        packages = [module for module in modules if hasattr(module, "__path__")]
        while packages:
            package = packages.pop()
            for name in sorted(names):
                full = f"{package.__name__}.{name}"
                module = sys.modules.get(full)
                if module is None:
                    if name not in package.__dict__:
                        self._add(4, sys.modules, full, None)
                elif id(module) not in self._seen:
                    self._seen[id(module)] = module
                    if hasattr(module, "__path__"):
                        packages.append(module)

    def _class(self, cls: Any) -> None:
        metaclass = type(cls)
        enum: Any = sys.modules.get("enum")
        is_enum = enum is not None and metaclass is enum.EnumType
        # What registers with an abstract class leaves no trace that could be guarded.
        if metaclass is not type and (
            not is_importable(metaclass)
            or (metaclass.__module__ in {"abc", "enum", "typing"} and not is_enum)
        ):
            raise _CannotGuard
        if is_enum:
            self._members(cls)
        if "__annotate_func__" in cls.__dict__:
            annotations_of(cls)  # which pickling does too, and it leaves something in the dict
        # The dict itself: of the read-only view, nobody promises that it has get.
        (attributes,) = gc.get_referents(cls.__dict__)
        if type(attributes) is not dict:
            raise _CannotGuard
        self._add(1, cls, "__bases__", cls.__bases__)
        self._add(1, cls, "__qualname__", cls.__qualname__)
        self._add(3, attributes, None, len(attributes))
        for base in cls.__bases__:
            self._value(base)
        for name, value in list(attributes.items()):
            self._add(0, attributes, name, value)
            if name in _CLASS_IGNORED:
                continue
            kind = type(value)
            # The metaclass makes these of the members.
            if is_enum and (name in _ENUM_TABLES or isinstance(value, cls)):
                continue
            if kind is staticmethod or kind is classmethod:
                self._value(value.__func__)
            elif kind is property or (is_enum and kind is enum.property):
                self._value((value.fget, value.fset, value.fdel))
            elif name in _CLASS_ANNOTATIONS and kind is dict:
                for each in value.values():
                    self._value(each)
            elif name == "__dataclass_fields__" and kind is dict:
                self._fields(value)
            elif name == "__dataclass_params__":
                continue  # what the decorator was called with
            elif kind not in _DESCRIPTORS:
                self._value(value)

    def _members(self, cls: Any) -> None:
        """Guards the members of an enumeration."""
        members = cls._member_map_
        self._add(3, members, None, len(members))
        for name, member in members.items():
            self._add(0, members, name, member)
            if not vars(member).keys() <= ENUM_OWN:
                raise _CannotGuard
            self._add(2, member, None, len(vars(member)))
            self._add(1, member, "_value_", member._value_)
            self._value(member._value_)

    def _fields(self, fields: dict[str, Any]) -> None:
        """Guards what a dataclass says of its fields."""
        import dataclasses

        self._add(3, fields, None, len(fields))
        for name, field in fields.items():
            self._add(0, fields, name, field)
            if type(field) is not dataclasses.Field or field.metadata:
                raise _CannotGuard
            for key in ("default", "default_factory", "type"):
                value = getattr(field, key)
                self._add(1, field, key, value)
                self._value(value)
