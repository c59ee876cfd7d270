"""Arrays in memory that a program and its workers share."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, SupportsIndex, cast

from ungil import _core

if TYPE_CHECKING:
    import numpy
    import numpy.typing

__all__ = ["empty"]


def empty(
    shape: SupportsIndex | Iterable[SupportsIndex], dtype: numpy.typing.DTypeLike = float
) -> numpy.ndarray[Any, Any]:
    """A new array that this program shares with its workers.

    Passed to a task of ``ungil.ProcessPoolExecutor``, or returned by one, it is not copied: the
    program and the worker have the same memory, and each sees what the other writes. There is no
    lock; who writes when is for the program to arrange, for instance by giving each task a part of
    its own. The same is true of every contiguous part of it (``array[10:20]``); other views are
    copied, as ordinary arrays are.

    In a task, the array is made in the worker, and shared with the program that it is returned to.
    Where memory is not shared, the array is copied like any other: from a worker's array into
    another worker, into the stdlib's executors, into a file. What is derived from it
    (``array + 1``) is an ordinary array.

    The memory is given back when nobody uses the array any more, neither here nor in a worker, nor
    in a child that was forked meanwhile, with which it is shared as well.

    Args:
        shape: Its length in each dimension, or one length.
        dtype: The type of its elements, as NumPy takes it; none that holds Python objects, and no
            dates, which NumPy keeps to itself.

    Returns:
        A writable array in C order, aligned to 64 bytes, whose elements are undefined.

    Raises:
        ImportError: NumPy is not installed.
        TypeError: Elements of this type cannot be shared, or the shape is none.
        ValueError: A length is negative.
        MemoryError: The system gives no shared memory of this size.
    """
    try:
        import numpy
    except ImportError as error:
        raise ImportError("ungil.empty makes NumPy arrays, and NumPy is not installed") from error
    lengths: tuple[int, ...]
    try:
        lengths = (operator.index(cast(SupportsIndex, shape)),)
    except TypeError:
        try:
            lengths = tuple(map(operator.index, cast("Iterable[SupportsIndex]", shape)))
        except TypeError:
            raise TypeError(f"a shape is a length or several of them, not {shape!r}") from None
    if any(length < 0 for length in lengths):
        raise ValueError(f"an array has no negative lengths, as in the shape {lengths}")
    # NumPy resolves what is open in a type: elements that are arrays, texts of no length.
    resolved: Any = numpy.empty(0, dtype)
    lengths += resolved.shape[1:]
    if resolved.dtype.hasobject:
        raise TypeError(f"elements of type {resolved.dtype} are objects of one process alone")
    try:
        memoryview(resolved)
    except ValueError:
        raise TypeError(
            f"NumPy gives nobody access to the memory of elements of type {resolved.dtype}, so they "
            f"are copied; share numbers, and look at them with .view() where they are used"
        ) from None
    buffer: Any = _core.allocate_shared(math.prod(lengths) * resolved.dtype.itemsize)
    return numpy.ndarray(lengths, resolved.dtype, buffer)
