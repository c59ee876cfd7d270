"""Exceptions of the function under test, put into sentences that say what to change."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


class Failure(Exception):
    """Something that the user is told instead of a traceback.

    Attributes:
        kind: One of the failure kinds of the comparison's schema.
        message: What happened and what to do.
        detail: The user's own traceback, if there is one.
    """

    def __init__(self, kind: str, message: str, detail: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.detail = detail


_MACHINERY = (
    str(Path(__file__).parent) + os.sep,
    str(Path(os.__file__).parent / "concurrent") + os.sep,
    str(Path(os.__file__).parent / "multiprocessing") + os.sep,
    str(Path(os.__file__).parent / "asyncio") + os.sep,
    str(Path(os.__file__).parent / "threading.py"),
    str(Path(os.__file__).parent / "importlib") + os.sep,
    "<frozen importlib",
    "<string>",
)
_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in ', re.MULTILINE)


def shorten(text: str, limit: int = 200) -> str:
    """Text on one line, cut in the middle if it is longer than ``limit`` characters."""
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    return f"{line[: limit // 2]} ... {line[-limit // 3 :]}"


def describe_value(value: object, limit: int = 80) -> str:
    """A value as an error message shows it; never raises."""
    try:
        return shorten(repr(value), limit)
    except Exception:
        return f"an object of {type(value).__name__} whose repr() fails"


def describe_exception(error: BaseException) -> str:
    """``ValueError: bad item``; never raises."""
    try:
        text = shorten(str(error))
    except Exception:
        text = "(its str() fails)"
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def place(error: BaseException) -> str:
    """Where the user's code raised, as ``tasks.py:12``; empty if that is not known."""
    frames = [
        (frame.filename, frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_MACHINERY)
    ]
    if not frames and error.__cause__ is not None:
        # What a worker process raised travels as the text of its traceback.
        frames = [
            (match["file"], int(match["line"]))
            for match in _FRAME.finditer(str(error.__cause__))
            if not match["file"].startswith(_MACHINERY)
        ]
    if not frames:
        return ""
    file, line = frames[-1]
    return f"{os.path.basename(file)}:{line}"


def user_traceback(error: BaseException) -> str:
    """The traceback without the frames of executors and of ungil."""
    if error.__cause__ is not None and type(error.__cause__).__name__ == "_RemoteTraceback":
        return str(error.__cause__).strip().strip('"').strip()
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_MACHINERY)
    ]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames)]
    return "".join([*lines, *traceback.format_exception_only(error)]).strip()


def of_import(error: BaseException, what: str) -> Failure:
    """An exception while the module of the function was imported."""
    where = place(error)
    where = f" ({where})" if where else ""
    if isinstance(error, SystemExit):
        return Failure(
            "target",
            f"{what} calls sys.exit() when it is imported{where}: put what only the program "
            "itself should do under if __name__ == '__main__':",
        )
    hint = ""
    if isinstance(error, ImportError) and "relative import" in str(error):
        hint = "; it belongs to a package, so name it as package.module:function"
    return Failure(
        "target",
        f"{what} could not be imported: {describe_exception(error)}{where}{hint}",
        user_traceback(error),
    )


def of_run(
    error: BaseException,
    function: str,
    pickles: bool,
    call: Callable[[Any], Any],
    items: Sequence[Any],
) -> Failure:
    """An exception while tasks ran.

    Args:
        error: The exception.
        function: The function's name.
        pickles: Whether tasks and results were pickled on their way.
        call: What was called for each item.
        items: The items.
    """
    if isinstance(error, Failure):
        return error
    if pickles:
        unpicklable = find_unpicklable(error, function, call, items)
        if unpicklable is not None:
            return unpicklable
    task = getattr(error, "ungil_task", None)
    where = ", ".join(
        part for part in (f"task {task}" if task is not None else "", place(error)) if part
    )
    where = f" ({where})" if where else ""
    detail = user_traceback(error)
    if isinstance(error, SystemExit):
        return Failure(
            "exited",
            f"{function}() called sys.exit({'' if error.code is None else describe_value(error.code)})"
            f"{where}: a task must return or raise",
            detail,
        )
    if isinstance(error, EOFError) and "reading a line" in str(error):
        return Failure(
            "raised",
            f"{function}() read standard input{where}, which is empty during a comparison: pass "
            "what it needs as an item or an argument",
            detail,
        )
    if _is_broken_pool(error):
        return Failure(
            "died",
            f"a worker died while it ran {function}(): the function, or a library it uses, "
            f"crashed, was killed or ended its process ({type(error).__name__})",
            detail,
        )
    return Failure("raised", f"{function}() raised {describe_exception(error)}{where}", detail)


def _is_broken_pool(error: BaseException) -> bool:
    module = sys.modules.get("concurrent.futures")
    return module is not None and isinstance(error, module.BrokenExecutor)


def find_unpicklable(
    error: BaseException, function: str, call: Callable[[Any], Any], items: Sequence[Any]
) -> Failure | None:
    """What cannot be pickled, if that is what an exception was about."""
    import pickle

    name = type(error).__name__
    is_about_pickling = (
        isinstance(error, pickle.PicklingError)
        or name in {"MaybeEncodingError", "NotShareableError"}
        or (
            isinstance(error, (TypeError, AttributeError))
            and re.search(r"pickle|Can't get (local )?(object|attribute)", str(error)) is not None
        )
    )
    if not is_about_pickling:
        return None
    reason = _pickling_error(call)
    if reason is not None:
        return Failure(
            "unpicklable",
            f"{function}() cannot be sent to a worker process or interpreter ({reason}): define it at the top "
            "level of a module, not as a lambda or inside a function",
        )
    for task, item in enumerate(items):
        reason = _pickling_error(item)
        if reason is not None:
            return Failure(
                "unpicklable",
                f"the item of task {task} cannot be sent to a worker process or interpreter ({reason}): send "
                "something plain, such as a path or an id, and let the task open the rest",
            )
    return Failure(
        "unpicklable",
        f"what {function}() returns cannot be sent back from a worker process or interpreter "
        f"({describe_exception(error.__cause__ or error)}): return something plain",
    )


def _pickling_error(value: object) -> str | None:
    import pickle

    try:
        pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return describe_exception(error)
    return None
