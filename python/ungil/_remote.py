"""Exceptions on their way from a worker to its parent, and those that the core asks for."""

from __future__ import annotations

import marshal

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from ungil.errors import TransferFailed, WorkerCrashed


# In a worker.


def encode_exception(error: BaseException, stage: str) -> bytes:
    """An exception as bytes, whatever it is made of.

    Args:
        error: The exception.
        stage: Where it was raised: ``function`` and ``arguments`` if the call could not be rebuilt,
            ``call`` if by the function, ``result`` if the result could not be sent.
    """
    from traceback import format_exception

    try:
        text = "".join(format_exception(type(error), error, error.__traceback__))
    except BaseException as second:
        text = f"{type(error).__qualname__} (its traceback cannot be shown: {second!r})\n"
    try:
        summary = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
    except BaseException:
        summary = f"{type(error).__module__}.{type(error).__qualname__}"
    pickled, reason = None, ""
    try:
        from ungil._pickling import dumps_result

        # The attributes travel with it; what raised it here stays here, but for the text.
        pickled = dumps_result(error, None)
    except BaseException as second:
        reason = f"{type(second).__qualname__}: {second}"
    return marshal.dumps((stage, _plain(text), _plain(summary), pickled, _plain(reason)))


def _plain(text: str) -> str:
    # Lone surrogates cannot be marshalled into every reader's hands.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


# In the parent.


def rebuild_exception(encoded: bytes, task: str) -> BaseException:
    """The exception that a worker has sent, with the worker's traceback as its cause."""
    import pickle
    from concurrent.futures import process

    stage, text, summary, pickled, reason = marshal.loads(encoded)
    remote_traceback: Any = process._RemoteTraceback
    remote = remote_traceback(f'\n"""\n{text}"""')
    error: BaseException
    if pickled is not None:
        try:
            error = pickle.loads(pickled)
            if not isinstance(error, BaseException):
                raise TypeError(f"it became a {type(error).__name__}, which is no exception")
        except BaseException as second:
            pickled, reason = None, f"{type(second).__qualname__}: {second}"
            cause: BaseException = second
            cause.__cause__ = remote
        else:
            cause = remote
    else:
        cause = remote
    if stage in ("function", "arguments"):
        what = "the function" if stage == "function" else "its arguments"
        failed = _transfer_failed(
            task, f"{what} could not be rebuilt in the worker process: {summary}"
        )
        failed.__cause__ = error if pickled is not None else cause
        if pickled is not None:
            error.__cause__ = remote
        return failed
    if pickled is None:
        failed = _transfer_failed(
            task, f"it raised {summary}, and that exception could not be sent: {reason}"
        )
        failed.__cause__ = cause
        return failed
    error.__cause__ = cause
    return error


def result_not_rebuilt(error: BaseException, task: str) -> TransferFailed:
    """What a future raises whose result cannot be unpickled here."""
    failed = _transfer_failed(
        task,
        "it returned, but its result could not be rebuilt in this process: "
        f"{type(error).__qualname__}: {error}",
    )
    failed.__cause__ = error
    return failed


def _transfer_failed(task: str, reason: str) -> TransferFailed:
    from ungil.errors import TransferFailed

    return TransferFailed(task, reason)


def worker_crashed(task: str, pid: int, exit_code: int | None, signal: int | None) -> WorkerCrashed:
    """What a future raises whose worker has died."""
    from ungil.errors import WorkerCrashed

    return WorkerCrashed(task, pid, exit_code, signal)


def worker_corrupted(task: str, pid: int) -> BaseException:
    """What a future raises whose worker wrote nonsense into shared memory."""
    from ungil.errors import WorkerCrashed

    crashed = WorkerCrashed(task, pid, None, 9)
    crashed.add_note(
        "it was killed because it had destroyed the memory that it shares with this process; "
        "native code that writes out of bounds does that"
    )
    return crashed


def pool_broken(reason: str) -> BaseException:
    """What a broken pool of processes raises."""
    from concurrent.futures.process import BrokenProcessPool

    return BrokenProcessPool(f"the process pool is not usable anymore: {reason}")


def threads_broken(reason: str) -> BaseException:
    """What a broken pool of threads raises."""
    from concurrent.futures.thread import BrokenThreadPool

    return BrokenThreadPool(reason)


def closed() -> BaseException:
    """What an executor raises that was shut down."""
    from ungil import _exit

    if _exit.is_exiting:
        return RuntimeError("cannot schedule new futures after interpreter shutdown")
    return RuntimeError("cannot schedule new futures after shutdown")


def foreign_executor() -> BaseException:
    """What an executor raises in a child of the process that made it."""
    return RuntimeError(
        "this executor belongs to the process from which this one was forked; "
        "make another one in this process"
    )
