"""Whether two results are the same, as a person would say.

NaN equals NaN; arrays are compared element by element; objects of a class without ``__eq__`` are
compared by their state. Where equality has no meaning the answer is "cannot tell", which is not
"different".
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

_DEPTH_LIMIT = 50

_IDENTITY: Any = object.__eq__

Same = bool | None
"""``True``, ``False``, or ``None`` for "cannot tell"."""


def same(one: Any, other: Any, depth: int = 0) -> Same:
    """Compares two results.

    Args:
        one: A result.
        other: The result of the same task in another run.
        depth: How many containers both are inside of.

    Returns:
        ``True`` or ``False``, or ``None`` if equality has no meaning for them.
    """
    if one is other:
        return True
    if depth > _DEPTH_LIMIT:
        return None
    try:
        return _same(one, other, depth)
    except Exception:
        # __eq__ belongs to the user's classes and may raise whatever it likes.
        return None


def _same(one: Any, other: Any, depth: int) -> Same:
    if isinstance(one, (float, complex)) and isinstance(other, (float, complex)):
        return bool(one == other) or (one != one and other != other)
    if type(one).__qualname__ != type(other).__qualname__:
        return bool(one == other)
    if isinstance(one, (str, bytes, bytearray, int)):
        return bool(one == other)
    if _is_array(one):
        return _same_arrays(one, other, depth)
    if hasattr(one, "equals") and callable(one.equals):
        # Series and data frames of pandas and polars.
        return bool(one.equals(other))
    if isinstance(one, Mapping):
        return _same_mappings(one, other, depth)
    if isinstance(one, (list, tuple)):
        return _same_sequences(one, other, depth)
    if isinstance(one, (set, frozenset)):
        # NaN in a set is found by identity only, which a copy from another process has not.
        return True if one == other else _same_sequences(_ordered(one), _ordered(other), depth)
    if isinstance(one, BaseException):
        return _same_sequences(one.args, other.args, depth)
    return _same_objects(one, other, depth)


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _same_arrays(one: Any, other: Any, depth: int) -> Same:
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(one, (numpy.ndarray, numpy.generic)):
        equal = one == other
        return bool(equal.all()) if hasattr(equal, "all") else bool(equal)
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.hasobject:
        return _same_sequences(one.ravel().tolist(), other.ravel().tolist(), depth)
    if one.dtype.names is not None:
        parts = [_same_arrays(one[name], other[name], depth) for name in one.dtype.names]
        return _all(parts)
    can_be_nan = one.dtype.kind in "fcmM"
    return bool(numpy.array_equal(one, other, equal_nan=can_be_nan))


def _same_mappings(one: Mapping[Any, Any], other: Mapping[Any, Any], depth: int) -> Same:
    if len(one) != len(other):
        return False
    if any(key not in other for key in one):
        return same(list(one.items()), list(other.items()), depth + 1) or None
    return _all(same(value, other[key], depth + 1) for key, value in one.items())


def _same_sequences(one: Sequence[Any], other: Sequence[Any], depth: int) -> Same:
    if len(one) != len(other):
        return False
    return _all(same(left, right, depth + 1) for left, right in zip(one, other, strict=True))


def _ordered(values: Any) -> list[Any]:
    return sorted(values, key=repr)


def _all(parts: Any) -> Same:
    """One difference decides; otherwise one that cannot be told does."""
    answer: Same = True
    for part in parts:
        if part is False:
            return False
        if part is None:
            answer = None
    return answer


def _same_objects(one: Any, other: Any, depth: int) -> Same:
    defines_equality = type(one).__eq__ != _IDENTITY
    if defines_equality and bool(one == other):
        return True
    states = _state(one), _state(other)
    if states[0] is None or states[1] is None:
        return False if defines_equality else None
    equal_state = same(states[0], states[1], depth + 1)
    if equal_state:
        return True
    # Its own __eq__ said no, and so does the state, as with a dataclass that is really different.
    # Without __eq__ a differing state may be a counter or an address: that is no wrong result.
    return equal_state if defines_equality else None


def _state(value: Any) -> dict[str, Any] | None:
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
