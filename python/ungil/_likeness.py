"""How a worker shall look: like a fork of its parent, though it is none."""

from __future__ import annotations

import marshal
import os
import random
import sys
from collections.abc import Callable
from typing import Any

from ungil._pickling import Encoder

# The parent's package must be found whatever its current folder has, and nothing is left in sys.path
# of what finds it: a request brings the whole path along.
_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from ungil import _zygote; _zygote.main(sys.argv[2:])"
)


def zygote_command(mode: str, master: int, parent: int) -> tuple[list[str], list[tuple[str, str]]]:
    """The command that starts a zygote.

    Args:
        mode: ``fork`` or ``spawn``.
        master: The descriptor of its master socket.
        parent: The descriptor of the parent's pidfd.

    Returns:
        Program and arguments, and variables to add to the environment.

    Raises:
        RuntimeError: This program does not say which interpreter it runs in.
    """
    return interpreter_command([mode, str(master), str(parent)]), _hash_seed()


def interpreter_command(arguments: list[str]) -> list[str]:
    """The command that starts a process of ungil's in a fresh interpreter like this one."""
    from multiprocessing.spawn import get_executable
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    executable = os.fsdecode(get_executable() or "")
    if not executable:
        raise RuntimeError(
            "worker processes cannot be started: sys.executable does not say which interpreter "
            "this is; set it, or call multiprocessing.set_executable"
        )
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    flags = [flag for flag in _args_from_interpreter_flags() if flag != "-i"]
    return [executable, *flags, "-c", _BOOTSTRAP, folder, *arguments]


# Workers of one process agree on the hashes of strings, so that work that is divided by hash goes
# to the same worker twice. Nobody can give them the secret of a process that drew its own.
_seed = str(random.SystemRandom().randrange(1, 2**32))


def _hash_seed() -> list[tuple[str, str]]:
    if os.environ.get("PYTHONHASHSEED", "random") != "random" or not sys.flags.hash_randomization:
        return []
    return [("PYTHONHASHSEED", _seed)]


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

        inheritance = _Inheritance()
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
    import resource

    main = sys.modules["__main__"]
    try:
        folder = os.getcwdb()
    except OSError:
        # It was removed. A fork would be there all the same; a worker stays where it is.
        folder = None
    return {
        "environment": list(os.environb.items()),
        "folder": folder,
        "umask": _umask(),
        "path": [entry for entry in sys.path if isinstance(entry, str)],
        "argv": [str(argument) for argument in sys.argv],
        "main": {
            name: value
            for name in ("__file__", "__package__", "__doc__")
            if isinstance(value := getattr(main, name, None), str)
        },
        "streams": [
            _stream(sys.__stdin__),
            _stream(sys.__stdout__),
            _stream(sys.__stderr__),
        ],
        "locale": _locale.setlocale(_locale.LC_ALL, None),
        "recursion_limit": sys.getrecursionlimit(),
        "switch_interval": sys.getswitchinterval(),
        "int_max_str_digits": sys.get_int_max_str_digits(),
        "affinity": sorted(os.sched_getaffinity(os.getpid())),
        "nice": os.getpriority(os.PRIO_PROCESS, os.getpid()),
        "limits": [
            (number, *resource.getrlimit(number))
            for number in range(getattr(resource, "RLIM_NLIMITS", 16))
        ],
    }


def _umask() -> int:
    # Asking the system would change it for a moment, for all threads.
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o022


def _stream(stream: Any) -> tuple[str, str, bool, bool] | None:
    try:
        return stream.encoding, stream.errors, stream.line_buffering, stream.write_through
    except (AttributeError, ValueError):
        return None


# In the worker.


def resemble(seen: dict[str, Any]) -> None:
    """Makes this process look like the parent."""
    import _locale
    import resource

    environment = dict(seen["environment"])
    if environment != dict(os.environb):
        for name in [name for name in os.environb if name not in environment]:
            del os.environb[name]
        for name, value in environment.items():
            if os.environb.get(name) != value:
                os.environb[name] = value
    if seen["folder"] is not None:
        try:
            os.chdir(seen["folder"])
        except OSError:
            pass
    os.umask(seen["umask"])
    sys.path[:] = seen["path"]
    sys.argv[:] = seen["argv"]
    for number, soft, hard in seen["limits"]:
        if resource.getrlimit(number) != (soft, hard):
            try:
                resource.setrlimit(number, (soft, hard))
            except (OSError, ValueError):
                pass
    if set(seen["affinity"]) != os.sched_getaffinity(0):
        try:
            os.sched_setaffinity(0, seen["affinity"])
        except OSError:
            pass
    if os.getpriority(os.PRIO_PROCESS, 0) != seen["nice"]:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, seen["nice"])
        except OSError:
            pass
    try:
        _locale.setlocale(_locale.LC_ALL, seen["locale"])
    except _locale.Error:
        pass
    sys.setrecursionlimit(seen["recursion_limit"])
    sys.setswitchinterval(seen["switch_interval"])
    sys.set_int_max_str_digits(seen["int_max_str_digits"])
    for name, like in zip(("stdin", "stdout", "stderr"), seen["streams"], strict=True):
        _open_stream(name, like)


def _open_stream(name: str, like: tuple[str, str, bool, bool] | None) -> None:
    number = ("stdin", "stdout", "stderr").index(name)
    try:
        os.fstat(number)
    except OSError:
        like = None
    stream: Any = None
    if like is not None:
        import io

        encoding, errors, line_buffering, write_through = like
        mode = "rb" if name == "stdin" else "wb"
        raw = open(number, mode, buffering=-1, closefd=False)  # noqa: SIM115
        stream = io.TextIOWrapper(
            raw,
            encoding,
            errors,
            newline="\n" if name != "stdin" else None,
            line_buffering=line_buffering,
            write_through=write_through,
        )
        stream.mode = mode[0]
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)
