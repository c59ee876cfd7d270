"""Exceptions of the function under test, put into sentences that say what to change."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from ungil.engines import Pool
    from ungil.errors import TransferFailed, WorkerCrashed


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


_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep
_STDLIB = os.path.dirname(os.__file__) + os.sep
_MACHINERY = (
    _OWN,
    *(
        _STDLIB + name + os.sep
        for name in ("concurrent", "multiprocessing", "asyncio", "importlib")
    ),
    _STDLIB + "threading.py",
    "<frozen importlib",
    "<string>",
)
"""Files whose frames are the machinery around the user's code. The two classic tasks, which are
ungil's own, count as the user's."""

_DETAIL_LIMIT = 8000
"""Characters of a traceback that are kept."""


def _is_shown(file: str) -> bool:
    """Whether a traceback shows frames of a file: not those of executors and of ungil."""
    return not file.startswith(_MACHINERY) or file == _OWN + "classic.py"


def _is_users(file: str) -> bool:
    """Whether a file is the user's or an installed package's, not the standard library's."""
    is_installed = "site-packages" in file or "dist-packages" in file
    return _is_shown(file) and (is_installed or not file.startswith(_STDLIB))


def _remote_frame(line: str) -> tuple[str, int] | None:
    """File and line of a frame, if that is what a line of a traceback's text names."""
    import re

    match = re.match(r'\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in ', line)
    return (match["file"], int(match["line"])) if match else None


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


def _remote_reason(error: BaseException) -> str:
    """What the worker said, where an exception carries its traceback as text; never raises."""
    remote = _remote_text(error)
    if remote is None:
        return describe_exception(error.__cause__ or error)
    return shorten(remote.rpartition("\n")[2])


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
    import traceback

    frames = [
        (frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)
    ]
    frames = [frame for frame in frames if _is_users(frame[0])]
    if not frames and error.__cause__ is not None:
        # What a worker process raised travels as the text of its traceback.
        named = map(_remote_frame, str(error.__cause__).splitlines())
        frames = [frame for frame in named if frame is not None and _is_users(frame[0])]
    if not frames:
        return ""
    file, line = frames[-1]
    return f"{os.path.basename(file)}:{line}"


def user_traceback(error: BaseException) -> str:
    """The traceback without the frames of executors and of ungil, cut in front if it is long."""
    remote = _remote_text(error)
    if remote is not None:
        return _without_machinery(remote)[-_DETAIL_LIMIT:]
    import traceback

    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if _is_shown(frame.filename)
    ]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames)]
    try:
        lines += traceback.format_exception_only(error)
    except Exception:
        lines.append(describe_exception(error))
    return "".join(lines).strip()[-_DETAIL_LIMIT:]


def _remote_text(error: BaseException) -> str | None:
    """The text of the traceback in the worker, where an exception brought one along."""
    if type(error.__cause__).__name__ not in {"_RemoteTraceback", "RemoteTraceback"}:
        return None
    return str(error.__cause__).strip().strip("\"'").strip()


def _without_machinery(text: str) -> str:
    """The text of a traceback without the frames of executors and of ungil."""
    kept = []
    is_kept = True
    for line in text.splitlines():
        frame = _remote_frame(line)
        if frame is not None:
            is_kept = _is_shown(frame[0])
        elif not line.startswith("    "):
            # Neither a frame nor the source line below one.
            is_kept = True
        if is_kept:
            kept.append(line)
    return "\n".join(kept)


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
    pool: Pool | None,
    call: Callable[[Any], Any],
    items: Sequence[Any],
) -> Failure:
    """An exception while tasks ran.

    Args:
        error: The exception.
        function: The function's name.
        pool: What pickled tasks and results on their way; ``None`` if nothing did.
        call: What was called for each item.
        items: The items.
    """
    if isinstance(error, Failure):
        return error
    if pool is not None:
        unpicklable = find_unpicklable(error, function, pool, call, items)
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
    if _is_transfer_failure(error):
        # What was raised there, or what pickle met, says more than where it arrived.
        return Failure(
            "unpicklable",
            f"{function}(){where}: {shorten(error.reason)}. Let it take, return and raise "
            "something plain, and give exceptions of your own the arguments that their __init__ "
            "takes, with super().__init__(...)",
            user_traceback(error.__cause__ or error),
        )
    if _is_crash(error):
        return Failure(
            "died",
            f"a worker died{_how(error)} while it ran {function}(){where}: the function, or a "
            "library it uses, crashed, was killed or ended its process",
        )
    if _is_broken_pool(error) and error.__cause__ is not None:
        # The worker lives; the caller could not unpickle what it sent.
        return Failure(
            "unpicklable",
            f"what {function}() returned or raised cannot be rebuilt from its pickle "
            f"({_remote_reason(error)}): "
            "return something plain, and give exceptions of your own the arguments that their "
            "__init__ takes, with super().__init__(...)",
        )
    if _is_broken_pool(error):
        return Failure(
            "died",
            f"a worker died while it ran {function}(): the function, or a library it uses, "
            f"crashed, was killed or ended its process ({type(error).__name__})",
            detail,
        )
    return Failure("raised", f"{function}() raised {describe_exception(error)}{where}", detail)


def of_start(error: BaseException, model: str, workers: int, hint: str) -> Failure:
    """An exception while the workers of a model started.

    Args:
        error: The exception.
        model: The model.
        workers: How many workers it was to have.
        hint: What is known to keep executors from starting here; may be empty.
    """
    if isinstance(error, Failure):
        return error
    is_refused = (
        isinstance(error, OSError)
        or "can't start new thread" in str(error)
        or (_is_broken_pool(error) and "could not be started" in str(error))
    )
    if not hint and is_refused:
        hint = "give fewer --workers, or raise the limit that the system sets"
    advice = f": {hint}" if hint else ""
    return Failure(
        "unavailable",
        f"{workers} worker{'' if workers == 1 else 's'} of {model.replace('_', '-')} could not be "
        f"started ({describe_exception(error)}){advice}",
        user_traceback(error),
    )


def _is_transfer_failure(error: BaseException) -> TypeGuard[TransferFailed]:
    module = sys.modules.get("ungil.errors")
    return module is not None and isinstance(error, module.TransferFailed)


def _is_crash(error: BaseException) -> TypeGuard[WorkerCrashed]:
    module = sys.modules.get("ungil.errors")
    return module is not None and isinstance(error, module.WorkerCrashed)


def _how(crash: WorkerCrashed) -> str:
    """By which signal or with which exit code a worker ended, if that is known."""
    from signal import Signals

    if crash.signal is not None:
        try:
            return f" ({Signals(crash.signal).name})"
        except ValueError:
            return f" (signal {crash.signal})"
    return "" if crash.exit_code is None else f" (exit code {crash.exit_code})"


def _is_broken_pool(error: BaseException) -> bool:
    module = sys.modules.get("concurrent.futures")
    return module is not None and isinstance(error, module.BrokenExecutor)


_ABOUT_PICKLING = ("pickle", "Can't get local object", "Can't get attribute", "Can't get object")


def find_unpicklable(
    error: BaseException,
    function: str,
    pool: Pool,
    call: Callable[[Any], Any],
    items: Sequence[Any],
) -> Failure | None:
    """What cannot be pickled, if that is what an exception was about."""
    import pickle

    name = type(error).__name__
    is_about_pickling = (
        isinstance(error, pickle.PicklingError)
        or name in {"MaybeEncodingError", "NotShareableError"}
        or (
            isinstance(error, (TypeError, AttributeError))
            and any(words in str(error) for words in _ABOUT_PICKLING)
        )
    )
    if not is_about_pickling:
        return None
    reason = _pickling_error(pool, call)
    if reason is not None:
        advice = (
            "let it open what it needs by itself"
            if pool.sends_by_value
            else "define it at the top level of a module, not as a lambda or inside a function"
        )
        return Failure(
            "unpicklable",
            f"{function}() cannot be sent to a worker process or interpreter ({reason}): {advice}",
        )
    for task, item in enumerate(items):
        reason = _pickling_error(pool, item)
        if reason is not None:
            return Failure(
                "unpicklable",
                f"the item of task {task} cannot be sent to a worker process or interpreter ({reason}): send "
                "something plain, such as a path or an id, and let the task open the rest",
            )
    reason = _remote_reason(error)
    # One that sends by value says by itself that an exception could not be sent.
    if not pool.sends_by_value and "During handling of the above exception" in str(error.__cause__):
        return Failure(
            "unpicklable",
            f"what {function}() raised cannot be sent back from a worker process or interpreter "
            f"({reason}): define its class at the top level of a module",
        )
    return Failure(
        "unpicklable",
        f"what {function}() returns cannot be sent back from a worker process or interpreter "
        f"({reason}): return something plain",
    )


def _pickling_error(pool: Pool, value: object) -> str | None:
    try:
        pool.pickle(value)
    except Exception as error:
        # Of a function that is sent by value, the cause says what in it cannot be.
        return describe_exception(error.__cause__ or error)
    return None
