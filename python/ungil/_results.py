"""Whether two results are the same, as a person would say.

NaN equals NaN; arrays are compared element by element; objects of a class without ``__eq__`` are
compared by their state. Where equality has no meaning the answer is "cannot tell", which is not
"different".
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from numbers import Number
from types import FunctionType, ModuleType
from typing import Any

_DEPTH_LIMIT = 50

# What a class inherits that defines no equality of its own.
_IDENTITY: Any = object.__eq__

Same = bool | None
"""``True``, ``False``, or ``None`` for "cannot tell"."""


def same(one: Any, other: Any) -> Same:
    """Compares two results.

    Args:
        one: A result.
        other: The result of the same task in another run.

    Returns:
        ``True`` or ``False``, or ``None`` if equality has no meaning for them.
    """
    return _Comparison().same(one, other, 0)


class _Comparison:
    """One comparison of two structures, and what it has found of their parts so far."""

    def __init__(self) -> None:
        # By the identity of both. The values are kept too, because the identity of something
        # that is gone may come back as that of something else.
        self._known: dict[tuple[int, int], tuple[Any, Any, Same]] = {}

    def same(self, one: Any, other: Any, depth: int) -> Same:
        """Compares two parts that are inside of ``depth`` containers."""
        if one is other:
            return True
        if depth > _DEPTH_LIMIT:
            return None
        try:
            return self._same(one, other, depth)
        except Exception:
            # __eq__ belongs to the user's classes and may raise whatever it likes.
            return None

    def _same(self, one: Any, other: Any, depth: int) -> Same:
        if isinstance(one, (Number, str, bytes, bytearray)):
            is_nan = isinstance(one, Number) and one != one and other != other
            return True if is_nan else _equal(one, other)
        pair = id(one), id(other)
        if pair not in self._known:
            # A structure that contains itself is the same as another if everything else is.
            self._known[pair] = one, other, True
            self._known[pair] = one, other, self._same_structures(one, other, depth)
        return self._known[pair][2]

    def _same_structures(self, one: Any, other: Any, depth: int) -> Same:
        if type(one).__qualname__ != type(other).__qualname__:
            return _equal(one, other)
        if hasattr(one, "dtype") and hasattr(one, "shape"):
            return self._same_arrays(one, other, depth)
        if type(one).__module__.partition(".")[0] in {"pandas", "polars"}:
            return bool(one.equals(other)) if hasattr(one, "equals") else _equal(one, other)
        if isinstance(one, Mapping):
            return self._same_mappings(one, other, depth)
        if isinstance(one, (list, tuple)):
            return self._same_sequences(one, other, depth)
        if isinstance(one, (set, frozenset)):
            return self._same_sets(one, other, depth)
        if isinstance(one, BaseException):
            return self._same_sequences(one.args, other.args, depth)
        return self._same_objects(one, other, depth)

    def _same_arrays(self, one: Any, other: Any, depth: int) -> Same:
        numpy = sys.modules.get("numpy")
        if numpy is None or not isinstance(one, (numpy.ndarray, numpy.generic)):
            return _equal(one, other)
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        if one.dtype.hasobject:
            return self._same_sequences(one.ravel().tolist(), other.ravel().tolist(), depth)
        if one.dtype.names is not None:
            return _all(
                self._same_arrays(one[name], other[name], depth) for name in one.dtype.names
            )
        can_be_nan = one.dtype.kind in "fcmM"
        return bool(numpy.array_equal(one, other, equal_nan=can_be_nan))

    def _same_mappings(self, one: Mapping[Any, Any], other: Mapping[Any, Any], depth: int) -> Same:
        if len(one) != len(other):
            return False
        # NaN is found by identity only, which a copy from another process has not.
        lost = _ordered(key for key in one if key not in other)
        found = _ordered(key for key in other if key not in one)
        keys = self._same_sequences(lost, found, depth)
        if keys is not True:
            return keys
        pairs = [(key, key) for key in one if key in other]
        pairs += zip(lost, found, strict=True)
        return _all(self.same(one[left], other[right], depth + 1) for left, right in pairs)

    def _same_sets(self, one: Any, other: Any, depth: int) -> Same:
        if len(one) != len(other):
            return False
        return self._same_sequences(_ordered(one - other), _ordered(other - one), depth)

    def _same_sequences(self, one: Sequence[Any], other: Sequence[Any], depth: int) -> Same:
        if len(one) != len(other):
            return False
        pairs = zip(one, other, strict=True)
        return _all(self.same(left, right, depth + 1) for left, right in pairs)

    def _same_objects(self, one: Any, other: Any, depth: int) -> Same:
        defines_equality = type(one).__eq__ is not _IDENTITY
        said: Same = None
        if defines_equality:
            try:
                said = _equal(one, other)
            except Exception:
                # A dataclass that holds an array raises here, and can be told by its fields.
                said = None
            if said:
                return True
        states = _state(one), _state(other)
        if states[0] is None or states[1] is None:
            return said
        if defines_equality and said is None and not states[0]:
            return None
        answer = self.same(states[0], states[1], depth + 1)
        # Its own __eq__ said no, and so does the state, as with a dataclass that is really
        # different. Without that, a differing state may be a counter or an address.
        is_meant = said is False or dataclasses.is_dataclass(one)
        return answer if answer or is_meant else None


def _equal(one: Any, other: Any) -> Same:
    """What ``==`` says, if it says yes or no."""
    answer = one == other
    if isinstance(answer, bool) or type(answer).__name__ in {"bool", "bool_"}:
        return bool(answer)
    return bool(answer.all()) if callable(getattr(answer, "all", None)) else None


def _ordered(values: Iterable[Any]) -> list[Any]:
    return sorted(values, key=repr)


def _all(parts: Iterable[Same]) -> Same:
    """One difference decides; otherwise one that cannot be told does."""
    answer: Same = True
    for part in parts:
        if part is False:
            return False
        if part is None:
            answer = None
    return answer


def _state(value: Any) -> dict[str, Any] | None:
    """Everything that an object consists of, ``None`` if that cannot be seen."""
    if isinstance(value, (FunctionType, ModuleType, type)):
        return None
    slots = [
        name
        for base in type(value).__mro__
        for name in _names(base.__dict__.get("__slots__", ()))
        if name not in {"__dict__", "__weakref__"}
    ]
    attributes = getattr(value, "__dict__", None)
    if attributes is None and not slots:
        return None
    state = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return {**state, **(attributes or {})}


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)
