"""How a worker shall look: like a fork of its parent, though it is none."""

from __future__ import annotations

import marshal
import os
import sys

# Type checkers take this name for true; importing typing would slow every worker's start.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ungil._pickling import Encoder

# The parent's package must be found whatever its current folder has. But that folder, which others
# share, must not come before the standard library, and nor may the current one, which is in the path
# because of -c: the zygote imports from where the parent did when it started.
_BOOTSTRAP = (
    "import sys; path = [entry for entry in sys.path if entry]; "
    "sys.path[:] = [sys.argv[1], *path]; import ungil; sys.path[:] = path; "
    "from ungil import _zygote; _zygote.main(sys.argv[2:])"
)


def zygote_command(mode: str) -> tuple[list[str], list[tuple[str, str | None]]]:
    """The command that starts a zygote.

    Args:
        mode: ``fork`` or ``spawn``.

    Returns:
        Program and arguments, and variables that differ from those of this process; ``None`` for
        one that shall be absent.

    Raises:
        RuntimeError: This program does not say which interpreter it runs in.
    """
    return interpreter_command([mode]), _variables(mode)


def interpreter_command(arguments: list[str]) -> list[str]:
    """The command that starts a process of ungil's in a fresh interpreter like this one."""
    # That module takes long to import. Where nobody has, nobody has set another interpreter.
    spawn = sys.modules.get("multiprocessing.spawn")
    executable = os.fsdecode((spawn.get_executable() if spawn else sys.executable) or "")
    if not executable:
        raise RuntimeError(
            "worker processes cannot be started: sys.executable does not say which interpreter "
            "this is; set it, or call multiprocessing.set_executable"
        )
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return [executable, *_flags(), "-c", _BOOTSTRAP, folder, *arguments]


_LETTERS = {
    "debug": "d",
    "optimize": "O",
    "dont_write_bytecode": "B",
    "no_site": "S",
    "verbose": "v",
    "bytes_warning": "b",
    "quiet": "q",
    "isolated": "I",
    "ignore_environment": "E",
    "no_user_site": "s",
    "safe_path": "P",
}


def _flags() -> list[str]:
    """What an interpreter is started with to be like this one.

    ``-i`` is left out, for it would import readline, and nobody types at a worker; and so is
    ``-W``, for workers get the filters as they are now, and what is wrong with an option was said.
    """
    flags: Any = sys.flags
    arguments = [
        "-" + letter * int(count)
        for name, letter in _LETTERS.items()
        if (count := getattr(flags, name))
    ]
    # The environment decides these too, and it may have changed since this process was started.
    options: dict[str, Any] = {"utf8": str(flags.utf8_mode), **sys._xoptions}
    if flags.dev_mode:
        options.setdefault("dev", True)
    for name, value in options.items():
        arguments += ["-X", name if value is True else f"{name}={value}"]
    return arguments


def _variables(mode: str) -> list[tuple[str, str | None]]:
    """Variables of a zygote that this process does not have, or has otherwise.

    A fork is not changed by what its parent's environment says meanwhile of interpreters and their
    encodings. Fresh interpreters are.
    """
    changed: dict[str, str | None] = {}
    if mode == "fork" and (at_start := _environment_at_start()) is not None:
        for name in {*at_start, *os.environ}:
            before = at_start.get(name)
            if name.startswith(("PYTHON", "LC_", "LANG")) and before != os.environ.get(name):
                changed[name] = before
    seed = changed.get("PYTHONHASHSEED", os.environ.get("PYTHONHASHSEED"))
    if sys.flags.hash_randomization and (seed or "random") == "random":
        changed["PYTHONHASHSEED"] = _hash_seed()
    return list(changed.items())


def _environment_at_start() -> dict[str, str] | None:
    """The environment with which this interpreter was started, if the system knows it."""
    try:
        with open("/proc/self/environ", "rb") as file:
            *entries, rest = file.read().split(b"\0")
    except OSError:
        return None
    # Programs that show a title of their own in the list of processes write it there, and zeros.
    if rest or not all(b"=" in entry for entry in entries):
        return None
    pairs = (entry.split(b"=", 1) for entry in entries)
    return {os.fsdecode(name): os.fsdecode(value) for name, value in pairs}


_seed: str | None = None


def _hash_seed() -> str:
    # Workers of one process agree on the hashes of strings, so that work that is divided by hash
    # goes to the same worker twice. Nobody can give them the secret of a process that drew its own.
    global _seed
    if _seed is None:
        _seed = str(int.from_bytes(os.urandom(4), "little") or 1)
    return _seed


class Capture:
    """What the workers of one executor are told.

    Called whenever workers are started, so that they look like the parent at that moment.
    """

    def __init__(
        self,
        start_method: str,
        encoder: Encoder,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        threads: int,
    ) -> None:
        self._start_method = start_method
        self._encoder = encoder
        self._initializer = initializer
        self._initargs = initargs
        self._threads = threads
        self._encoded: tuple[Any, list[int]] | None = None

    def __call__(self) -> tuple[bytes, list[int]]:
        """How a worker shall look, and the descriptors that it shall have."""
        from multiprocessing import process

        current = process.current_process()
        seen: dict[str, Any] = {
            "threads": self._threads,
            "authkey": bytes(current.authkey),
            "parent_name": current.name,
            "parent_pid": os.getpid(),
        }
        if self._start_method == "fork":
            # The worker has the rest, being a fork.
            if self._encoded is None:
                self._encoder.snapshot()
                _inherited[id(self)] = (self._initializer, self._initargs)
                self._encoded = (None, [])
            seen["inherited"] = id(self)
            return marshal.dumps(seen), []
        if self._encoded is None:
            self._encoded = self._encode_initializer()
        initializer, descriptors = self._encoded
        seen.update(_look(), initializer=initializer)
        return marshal.dumps(seen), descriptors

    def _encode_initializer(self) -> tuple[Any, list[int]]:
        if self._initializer is None:
            return None, []
        from multiprocessing import context

        inheritance: Any = _Inheritance()
        # Locks, queues and connections travel to a process that is being started, and only so.
        context.set_spawning_popen(inheritance)
        try:
            function, definitions, _ = self._encoder.dumps_function(self._initializer)
            arguments, more = self._encoder.dumps(self._initargs, None)
        finally:
            context.set_spawning_popen(None)
        return (definitions, function, more, arguments), inheritance.descriptors


_inherited: dict[int, tuple[Callable[..., object] | None, tuple[Any, ...]]] = {}


class _Inheritance:
    """Takes the place of ``multiprocessing``'s starter of a process while arguments are pickled."""

    def __init__(self) -> None:
        # They stay open as long as workers may be started, and do not depend on the user's.
        self.descriptors: list[int] = []

    def duplicate_for_child(self, descriptor: int) -> int:
        self.descriptors.append(os.dup(descriptor))
        return len(self.descriptors) - 1

    @staticmethod
    def DupFd(index: int) -> InheritedDescriptor:
        return InheritedDescriptor(index)


class InheritedDescriptor:
    """A descriptor that a worker was started with."""

    received: list[int] | None = None

    def __init__(self, index: int) -> None:
        self._index = index

    def detach(self) -> int:
        """The descriptor's number here."""
        assert InheritedDescriptor.received is not None
        return os.dup(InheritedDescriptor.received[self._index])


def _look() -> dict[str, Any]:
    import _locale
    import gc
    import multiprocessing
    import resource
    import time

    umask, ignored = _status()
    try:
        folder = os.getcwdb()
    except OSError:
        # It was removed.
        folder = None
    return {
        "environment": list(os.environb.items()),
        "folder": folder,
        "umask": umask,
        "ignored_signals": ignored,
        "group": os.getpgid(0),
        "credentials": _credentials(),
        "affinity": sorted(os.sched_getaffinity(os.getpid())),
        "nice": os.getpriority(os.PRIO_PROCESS, os.getpid()),
        "scheduler": (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority),
        "limits": [
            (number, *resource.getrlimit(number))
            for number in range(getattr(resource, "RLIM_NLIMITS", 16))
        ],
        "path": [str(entry) for entry in sys.path if isinstance(entry, str)],
        "argv": [str(argument) for argument in sys.argv],
        "orig_argv": [str(argument) for argument in sys.orig_argv],
        "executable": _text(sys.executable),
        "warning_options": [str(option) for option in sys.warnoptions],
        "options": {
            str(name): True if value is True else str(value)
            for name, value in sys._xoptions.items()
        },
        "main": _describe_main(),
        "start_method": multiprocessing.get_start_method(allow_none=True),
        "streams": [
            _describe_stream(sys.__stdin__),
            _describe_stream(sys.__stdout__),
            _describe_stream(sys.__stderr__),
        ],
        "locale": _locale.setlocale(_locale.LC_ALL, None),
        "time_zone": time.tzname,
        "warning_filters": _describe_filters(),
        "recursion_limit": sys.getrecursionlimit(),
        "switch_interval": sys.getswitchinterval(),
        "int_max_str_digits": sys.get_int_max_str_digits(),
        "dont_write_bytecode": bool(sys.dont_write_bytecode),
        "pycache_prefix": _text(sys.pycache_prefix),
        "dlopen_flags": sys.getdlopenflags(),
        "coroutine_origins": sys.get_coroutine_origin_tracking_depth(),
        "gc": (gc.isenabled(), gc.get_threshold(), gc.get_debug()),
        "socket_timeout": _ask("_socket", lambda it: it.getdefaulttimeout(), None),
        "faulthandler": _ask("faulthandler", lambda it: it.is_enabled(), False),
        "tracemalloc": _ask(
            "_tracemalloc", lambda it: it.is_tracing() and it.get_traceback_limit(), 0
        ),
    }


def _text(path: Any) -> str | None:
    # What is marshalled must be of the very type.
    return None if path is None else str(os.fsdecode(path))


def _ask(module: str, question: Callable[[Any], Any], otherwise: Any) -> Any:
    """What a module says that is not imported for this."""
    found = sys.modules.get(module)
    return otherwise if found is None else question(found)


def _status() -> tuple[int, int]:
    """The mask for new files, and the signals that are ignored, a bit each."""
    umask, ignored = 0o022, 0
    # Asking the system for the mask would change it for a moment, for all threads.
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"Umask:"):
                    umask = int(line.split()[1], 8)
                elif line.startswith(b"SigIgn:"):
                    ignored = int(line.split()[1], 16)
    except OSError:
        pass
    return umask, ignored


def _credentials() -> tuple[Any, ...]:
    return os.getresuid(), os.getresgid(), sorted(os.getgroups())


def _describe_main() -> dict[str, Any]:
    main = sys.modules["__main__"]
    seen: dict[str, Any] = {
        name: None if value is None else str(value)
        for name in ("__file__", "__package__", "__doc__", "__cached__")
        if hasattr(main, name) and isinstance(value := getattr(main, name), str | None)
    }
    spec: Any = getattr(main, "__spec__", None)
    if isinstance(name := getattr(spec, "name", None), str):
        origin = getattr(spec, "origin", None)
        seen["__spec__"] = (str(name), str(origin) if isinstance(origin, str) else None)
    loader: Any = getattr(main, "__loader__", None)
    if isinstance(loader, type):
        seen["__loader__"] = loader.__name__
    elif type(loader).__name__ == "SourceFileLoader" and isinstance(loader.path, str):
        seen["__loader__"] = (str(loader.name), str(loader.path))
    return seen


def _describe_stream(stream: Any) -> tuple[str, str, bool, bool, bool] | None:
    try:
        return (
            str(stream.encoding),
            str(stream.errors),
            bool(stream.line_buffering),
            bool(stream.write_through),
            # -u has it so.
            not hasattr(stream.buffer, "raw"),
        )
    except (AttributeError, ValueError):
        return None


def _describe_filters() -> list[tuple[Any, ...]]:
    import warnings

    described = (_describe_filter(each) for each in warnings.filters)
    return [each for each in described if each is not None]


def _describe_filter(each: Any) -> tuple[Any, ...] | None:
    try:
        action, message, category, module, line = each
        return (
            str(action),
            _describe_pattern(message),
            (category.__module__, category.__qualname__),
            _describe_pattern(module),
            int(line),
        )
    except (AttributeError, TypeError, ValueError):
        # Somebody has put something else there, which warnings will not understand either.
        return None


def _describe_pattern(pattern: Any) -> str | tuple[str, int] | None:
    if pattern is None or isinstance(pattern, str):
        return pattern and str(pattern)
    return str(pattern.pattern), int(pattern.flags)


# In the worker.


def resemble(seen: dict[str, Any]) -> None:
    """Makes this process look like the parent.

    Raises:
        OSError: It has rights that the parent has not, and cannot give them up.
    """
    _resemble_process(seen)
    _resemble_interpreter(seen)
    for name, like in zip(("stdin", "stdout", "stderr"), seen["streams"], strict=True):
        _open_stream(name, like)


def make_main(seen: dict[str, Any]) -> None:
    """A ``__main__`` into which the parent's functions can come; its script is not run again."""
    import builtins

    spec: Any = sys.__spec__
    attributes = {"__builtins__": builtins, "__spec__": None, **seen}
    loader = attributes.get("__loader__")
    if isinstance(loader, tuple):
        from _frozen_importlib_external import SourceFileLoader

        attributes["__loader__"] = SourceFileLoader(*loader)
    elif loader is not None:
        # Those of code that is in no file are classes of the import system.
        attributes["__loader__"] = spec.loader if spec.loader.__name__ == loader else None
    if attributes["__spec__"] is not None:
        name, origin = attributes["__spec__"]
        attributes["__spec__"] = type(spec)(name, attributes.get("__loader__"), origin=origin)
        attributes["__spec__"].has_location = origin is not None
    main = type(sys)("__main__")
    main.__dict__.update(attributes)
    sys.modules["__main__"] = main


def _resemble_process(seen: dict[str, Any]) -> None:
    import _signal
    import resource

    environment = dict(seen["environment"])
    if environment != dict(os.environb):
        for name in [name for name in os.environb if name not in environment]:
            del os.environb[name]
        for name, value in environment.items():
            if os.environb.get(name) != value:
                os.environb[name] = value
    # In the way of the parent's own folder, one that was removed can still be reached.
    folder = seen["folder"] or f"/proc/{seen['parent_pid']}/cwd"
    _try(os.chdir, folder)
    os.umask(seen["umask"])
    for number in range(1, _signal.NSIG):
        is_ignored = bool(seen["ignored_signals"] >> (number - 1) & 1)
        if (_signal.getsignal(number) == _signal.SIG_IGN) != is_ignored:
            _try(_signal.signal, number, _signal.SIG_IGN if is_ignored else _signal.SIG_DFL)
    if os.getpgid(0) != seen["group"]:
        # It fails if the parent has gone to another session.
        _try(os.setpgid, 0, seen["group"])
    for number, soft, hard in seen["limits"]:
        if resource.getrlimit(number) != (soft, hard):
            _try(resource.setrlimit, number, (soft, hard))
    if set(seen["affinity"]) != os.sched_getaffinity(0):
        _try(os.sched_setaffinity, 0, seen["affinity"])
    policy, priority = seen["scheduler"]
    if (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority) != (policy, priority):
        _try(os.sched_setscheduler, 0, policy, os.sched_param(priority))
    if os.getpriority(os.PRIO_PROCESS, 0) != seen["nice"]:
        _try(os.setpriority, os.PRIO_PROCESS, 0, seen["nice"])
    if _credentials() != seen["credentials"]:
        # The last of all, for the rest may need the rights that are given up here.
        _change_credentials(*seen["credentials"])


def _change_credentials(
    users: tuple[int, int, int], groups: tuple[int, int, int], more_groups: list[int]
) -> None:
    """Gives up rights, as the parent has since the zygote was started."""
    from ungil import _core

    zygote = os.getppid()
    if sorted(os.getgroups()) != more_groups:
        os.setgroups(more_groups)
    os.setresgid(*groups)
    os.setresuid(*users)
    # The system forgets it when the user changes.
    _core.WorkerStart.end_with_zygote()
    if os.getppid() != zygote:
        os._exit(1)


def _resemble_interpreter(seen: dict[str, Any]) -> None:
    import _locale
    import gc
    import time

    sys.path[:] = seen["path"]
    sys.argv[:] = seen["argv"]
    sys.orig_argv[:] = seen["orig_argv"]
    sys.executable = seen["executable"]
    sys.warnoptions[:] = seen["warning_options"]
    sys._xoptions.clear()
    sys._xoptions.update(seen["options"])
    try:  # noqa: SIM105, for contextlib takes long to import
        _locale.setlocale(_locale.LC_ALL, seen["locale"])
    except _locale.Error:  # type: ignore[attr-defined]
        pass
    if time.tzname != seen["time_zone"]:
        time.tzset()
    _resemble_filters(seen["warning_filters"])
    sys.setrecursionlimit(seen["recursion_limit"])
    sys.setswitchinterval(seen["switch_interval"])
    sys.set_int_max_str_digits(seen["int_max_str_digits"])
    sys.dont_write_bytecode = seen["dont_write_bytecode"]
    sys.pycache_prefix = seen["pycache_prefix"]
    sys.setdlopenflags(seen["dlopen_flags"])
    sys.set_coroutine_origin_tracking_depth(seen["coroutine_origins"])
    is_enabled, thresholds, debug = seen["gc"]
    if not is_enabled:
        gc.disable()
    gc.set_threshold(*thresholds)
    gc.set_debug(debug)
    if seen["socket_timeout"] is not None:
        import _socket

        _socket.setdefaulttimeout(seen["socket_timeout"])
    if seen["faulthandler"] != _ask("faulthandler", lambda it: it.is_enabled(), False):
        import faulthandler

        if seen["faulthandler"]:
            _try(faulthandler.enable, 2)
        else:
            faulthandler.disable()
    if seen["tracemalloc"]:
        import tracemalloc

        tracemalloc.start(seen["tracemalloc"])


def _resemble_filters(described: list[tuple[Any, ...]]) -> None:
    import _warnings

    filters: list[Any] = _warnings.filters
    here = {_describe_filter(each): each for each in filters}
    if list(here) == described:
        return
    import warnings

    made = (here.get(each) or _make_filter(*each) for each in described)
    filters[:] = [each for each in made if each is not None]
    # What was decided by the other filters is forgotten.
    with warnings.catch_warnings():
        pass


def _make_filter(
    action: str, message: Any, category: tuple[str, str], module: Any, line: int
) -> tuple[Any, ...] | None:
    import re

    try:
        found: Any = __import__(category[0], fromlist=["*"])
        for part in category[1].split("."):
            found = getattr(found, part)
    except Exception:
        # It is one of ``__main__``, or of something that this process cannot import.
        return None
    patterns = [
        re.compile(*each) if isinstance(each, tuple) else each for each in (message, module)
    ]
    return action, patterns[0], found, patterns[1], line


def _open_stream(name: str, like: tuple[str, str, bool, bool, bool] | None) -> None:
    number = ("stdin", "stdout", "stderr").index(name)
    try:
        os.fstat(number)
    except OSError:
        like = None
    stream: Any = None
    if like is not None:
        import io

        encoding, errors, line_buffering, write_through, is_unbuffered = like
        mode = "rb" if name == "stdin" else "wb"
        raw: Any = io.FileIO(number, mode, closefd=False)
        raw.name = f"<{name}>"
        buffer = raw
        if not is_unbuffered:
            buffer = io.BufferedReader(raw) if name == "stdin" else io.BufferedWriter(raw)
        stream = io.TextIOWrapper(
            buffer,
            encoding,
            errors,
            newline="\n",
            line_buffering=line_buffering,
            write_through=write_through,
        )
        stream.mode = mode[0]
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


def _try(change: Callable[..., object], *arguments: Any) -> None:
    """Does what the system may refuse; a worker is useful all the same."""
    try:  # noqa: SIM105, as above
        change(*arguments)
    except (OSError, ValueError, RuntimeError):
        pass
