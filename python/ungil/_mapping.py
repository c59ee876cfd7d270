"""``map`` of both executors."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from weakref import ref

# Type checkers take this name for true; importing typing takes a program long that does not need it.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any


class Mapping:
    """``map``, for executors that have ``submit``."""

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Calls a function with each item, as the built-in ``map`` does, and yields in order.

        Every item counts for itself, however many are sent together: one that fails or kills its
        worker costs no other.

        Args:
            fn: What to call, with as many arguments as there are iterables.
            iterables: The items. Without ``buffersize`` they are all taken at once.
            timeout: Seconds from the call of ``map`` until each result must be there.
            chunksize: Items that the stdlib would send together. Sending is batched here as it
                suits the tasks, so it only scales ``buffersize``.
            buffersize: Take items only so far ahead: at most so many chunks are submitted of
                which no result was yielded.

        Returns:
            An iterator over the results. It raises what a call raised, and cancels the rest when
            it is closed.

        Raises:
            TimeoutError: From the iterator: a result is not there in time.
            ValueError: ``chunksize`` or ``buffersize`` is less than one.
            TypeError: ``buffersize`` is not an integer.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None:
            if not isinstance(buffersize, int):
                raise TypeError("buffersize must be an integer or None")
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
        ahead = None if buffersize is None else buffersize * chunksize
        return self._map_items(fn, iterables, timeout, ahead)

    def _map_items(
        self,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        ahead: int | None,
    ) -> Iterator[Any]:
        end = None if timeout is None else timeout + time.monotonic()
        items = zip(*iterables, strict=False)
        if ahead is None:
            submit = self.submit  # type: ignore[attr-defined]
            futures = deque(submit(fn, *arguments) for arguments in items)
            return _results(futures, end, None, iter(()))
        # An executor that is dropped takes no further items.
        submit = _weakly(self, fn)
        futures = deque(submit(*arguments) for arguments in itertools.islice(items, ahead))
        return _results(futures, end, submit, items)


def _weakly(executor: Mapping, fn: Callable[..., Any]) -> Callable[..., Future[Any] | None]:
    reference = ref(executor)

    def submit(*arguments: Any) -> Future[Any] | None:
        alive = reference()
        return None if alive is None else alive.submit(fn, *arguments)  # type: ignore[attr-defined]

    return submit


def _results(
    futures: deque[Future[Any]],
    end: float | None,
    submit: Callable[..., Future[Any] | None] | None,
    items: Iterator[tuple[Any, ...]],
) -> Iterator[Any]:
    try:
        while futures:
            # No reference is kept to a future or a result that was yielded.
            future = [futures.popleft()]
            if submit is not None and (arguments := next(items, None)) is not None:
                following = submit(*arguments)
                if following is not None:
                    futures.append(following)
            yield _result_or_cancel(future.pop(), end)
    finally:
        for other in futures:
            other.cancel()


def _result_or_cancel(future: Future[Any], end: float | None) -> Any:
    try:
        try:
            return future.result(None if end is None else end - time.monotonic())
        finally:
            future.cancel()
    finally:
        # The exception's traceback would hold the future, and the future the exception.
        del future
