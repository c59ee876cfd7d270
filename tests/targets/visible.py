"""All that a process can see of itself, to compare processes that should look alike."""

from __future__ import annotations

import contextlib
import ctypes
import decimal
import faulthandler
import fcntl
import gc
import locale
import logging
import multiprocessing
import os
import random
import resource
import select
import signal
import socket
import stat
import sys
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)

# Numbers of the system's that Python has no names for.
_PRCTL = {
    "pdeathsig": (2, True),
    "dumpable": (3, False),
    "keepcaps": (7, False),
    "timing": (13, False),
    "name": (16, True),
    "seccomp": (21, False),
    "securebits": (27, False),
    "timerslack": (30, False),
    "child_subreaper": (37, True),
    "no_new_privs": (39, False),
    "thp_disable": (42, False),
}
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")


def everything() -> dict[str, str]:
    """What there is to see, each by a name of its own."""
    seen: dict[str, str] = {}
    for part in (_system, _signals, _descriptors, _interpreter, _main, _streams, _modules):
        for name, value in part():
            seen[name] = value if isinstance(value, str) else repr(value)
    return seen


def _asked(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _read(path: str) -> Any:
    return _asked(lambda: Path(path).read_text(errors="surrogateescape").strip())


def _system() -> Iterator[tuple[str, Any]]:
    yield "pid", os.getpid()
    yield "parent", os.getppid()
    yield "process group", os.getpgid(0)
    yield "session", os.getsid(0)
    yield "terminal", _asked(lambda: os.ctermid() and os.close(os.open("/dev/tty", os.O_RDWR)))
    yield "users", os.getresuid()
    yield "groups", (os.getresgid(), sorted(os.getgroups()))
    yield "folder", _asked(os.getcwd)
    yield "folder (link)", _asked(lambda: os.readlink("/proc/self/cwd"))
    yield "root", _asked(lambda: os.readlink("/proc/self/root"))
    yield "executed", _asked(lambda: os.readlink("/proc/self/exe"))
    yield "command line", _read("/proc/self/cmdline")
    yield "umask", _status()["Umask"]
    yield "nice", os.getpriority(os.PRIO_PROCESS, 0)
    yield "scheduler", (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)
    yield "affinity", sorted(os.sched_getaffinity(0))
    yield "io priority", _LIBC.syscall(252, 1, 0) if os.uname().machine == "x86_64" else None
    yield "oom_score_adj", _read("/proc/self/oom_score_adj")
    yield "coredump_filter", _read("/proc/self/coredump_filter")
    yield "personality", _read("/proc/self/personality")
    yield "cgroup", _read("/proc/self/cgroup")
    yield "threads", len(os.listdir("/proc/self/task"))
    for name in sorted(dir(resource)):
        if name.startswith("RLIMIT_"):
            yield f"limit {name}", resource.getrlimit(getattr(resource, name))
    for name in _NAMESPACES:
        yield f"namespace {name}", _asked(lambda name=name: os.readlink(f"/proc/self/ns/{name}"))
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp"):
        yield f"rights {name}", _status().get(name)
    for name, (number, is_written) in _PRCTL.items():
        yield f"prctl {name}", _prctl(number, is_written)
    for name in sorted({*os.environ, *_environment_of_c()}):
        yield f"environment {name}", (os.environ.get(name), _environment_of_c().get(name))


def _status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _prctl(number: int, is_written: bool) -> Any:
    if not is_written:
        return _LIBC.prctl(number, 0, 0, 0, 0)
    room = ctypes.create_string_buffer(16)
    code = _LIBC.prctl(number, room, 0, 0, 0)
    return code, room.raw.rstrip(b"\0")


def _environment_of_c() -> dict[str, str]:
    entries = ctypes.POINTER(ctypes.c_char_p).in_dll(_LIBC, "environ")
    found: dict[str, str] = {}
    at = 0
    while entries and (entry := entries[at]) is not None:
        name, _, value = os.fsdecode(entry).partition("=")
        found[name] = value
        at += 1
    return found


def _signals() -> Iterator[tuple[str, Any]]:
    status = _status()
    yield "signals blocked", status["SigBlk"]
    yield "signals pending", (status["SigPnd"], status["ShdPnd"])
    ignored, caught = int(status["SigIgn"], 16), int(status["SigCgt"], 16)
    for number in sorted(signal.valid_signals()):
        bit = 1 << (number - 1)
        state = "ignored" if ignored & bit else "caught" if caught & bit else "default"
        handler: Any = signal.getsignal(number)
        if callable(handler) and not isinstance(handler, signal.Handlers):
            handler = f"{handler.__module__}.{handler.__qualname__}"
        name = number.name if isinstance(number, signal.Signals) else str(int(number))
        yield f"signal {name}", (state, str(handler))


def _descriptors() -> Iterator[tuple[str, Any]]:
    numbers = sorted(map(int, os.listdir("/proc/self/fd")))
    for number in numbers:
        # That of the folder itself is closed.
        with contextlib.suppress(OSError):
            flags = fcntl.fcntl(number, fcntl.F_GETFL)
            status = os.fstat(number)
            target = os.readlink(f"/proc/self/fd/{number}")
            is_inherited = os.get_inheritable(number)
            kind = stat.filemode(status.st_mode)
            name = f"standard descriptor {number}" if number < 3 else f"descriptor {number}"
            yield name, (target, kind, oct(flags), is_inherited)


def _interpreter() -> Iterator[tuple[str, Any]]:
    for name in dir(sys.flags):
        if not name.startswith(("_", "n_")) and name not in ("count", "index"):
            yield f"sys.flags.{name}", getattr(sys.flags, name)
    for name in (
        "_base_executable",
        "_framework",
        "_git",
        "_stdlib_dir",
        "_xoptions",
        "abiflags",
        "argv",
        "base_exec_prefix",
        "base_prefix",
        "byteorder",
        "dont_write_bytecode",
        "exec_prefix",
        "executable",
        "float_repr_style",
        "orig_argv",
        "path",
        "platlibdir",
        "prefix",
        "pycache_prefix",
        "tracebacklimit",
        "version",
        "warnoptions",
    ):
        yield f"sys.{name}", getattr(sys, name, "absent")
    for name in (
        "getdefaultencoding",
        "getdlopenflags",
        "getfilesystemencodeerrors",
        "getfilesystemencoding",
        "getprofile",
        "getrecursionlimit",
        "getswitchinterval",
        "gettrace",
        "get_asyncgen_hooks",
        "get_coroutine_origin_tracking_depth",
        "get_int_max_str_digits",
        "_is_gil_enabled",
        "is_stack_trampoline_active",
    ):
        yield f"sys.{name}()", getattr(sys, name, lambda: "absent")()
    for name in ("meta_path", "path_hooks"):
        yield f"sys.{name}", [_name_of(each) for each in getattr(sys, name)]
    for name in ("breakpointhook", "displayhook", "excepthook", "unraisablehook"):
        yield f"sys.{name}", _name_of(getattr(sys, name))
    yield "hash of a string", hash("abc")
    yield "hash of bytes", hash(b"abc")
    yield "ungil.__file__", sys.modules["ungil"].__file__


def _name_of(thing: Any) -> str:
    thing = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{thing.__module__}.{thing.__qualname__}"


def _main() -> Iterator[tuple[str, Any]]:
    main = sys.modules["__main__"]
    for name in ("__name__", "__file__", "__package__", "__doc__", "__cached__", "__builtins__"):
        yield f"__main__.{name}", getattr(main, name, "absent")
    spec: Any = getattr(main, "__spec__", None)
    for name in ("name", "origin", "parent", "has_location", "submodule_search_locations"):
        yield f"__main__.__spec__.{name}", getattr(spec, name, "absent")
    loader: Any = getattr(main, "__loader__", None)
    yield "__main__.__loader__", (_name_of(loader), getattr(loader, "path", None))


def _streams() -> Iterator[tuple[str, Any]]:
    for name in ("stdin", "stdout", "stderr"):
        stream: Any = getattr(sys, name)
        yield f"sys.{name} is the first", stream is getattr(sys, f"__{name}__")
        yield f"sys.{name}", repr(stream)
        if stream is None:
            continue
        for attribute in (
            "encoding",
            "errors",
            "line_buffering",
            "mode",
            "name",
            "newlines",
            "write_through",
            "_CHUNK_SIZE",
        ):
            yield f"sys.{name}.{attribute}", getattr(stream, attribute, "absent")
        yield f"sys.{name}.isatty()", _asked(stream.isatty)
        buffer: Any = getattr(stream, "buffer", None)
        raw: Any = getattr(buffer, "raw", buffer)
        yield f"sys.{name}.buffer", (_name_of(buffer), _name_of(raw))
        yield f"sys.{name}.buffer.raw.name", getattr(raw, "name", None)
        yield f"sys.{name}.buffer.raw.mode", getattr(raw, "mode", None)
        yield f"sys.{name}.buffer.raw.closefd", getattr(raw, "closefd", None)


def _modules() -> Iterator[tuple[str, Any]]:
    for name in ("LC_CTYPE", "LC_COLLATE", "LC_TIME", "LC_MONETARY", "LC_MESSAGES", "LC_NUMERIC"):
        yield f"locale {name}", locale.setlocale(getattr(locale, name))
    yield "locale.getencoding()", locale.getencoding()
    yield "locale.localeconv()", sorted(locale.localeconv().items(), key=lambda item: item[0])
    yield "time.tzname", (time.tzname, time.timezone, time.altzone, time.daylight)
    yield "time of day 0", (time.localtime(0)[:6], time.strftime("%A %x %Z", time.localtime(0)))
    for at, each in enumerate(warnings.filters):
        yield f"warnings.filters[{at}]", _filter(each)
    yield "gc.isenabled()", gc.isenabled()
    yield "gc.get_threshold()", gc.get_threshold()
    yield "gc.get_debug()", gc.get_debug()
    yield "gc frozen", gc.get_freeze_count() > 0
    yield "faulthandler.is_enabled()", faulthandler.is_enabled()
    yield "tracemalloc", (tracemalloc.is_tracing(), tracemalloc.get_traceback_limit())
    main = threading.main_thread()
    yield "main thread", (main.name, main.daemon, main is threading.current_thread())
    yield "threads of Python", [each.name for each in threading.enumerate()]
    yield "main thread's number", main.ident == threading.get_ident()
    # To ask for it sets it.
    yield "threading.stack_size()", (size := threading.stack_size())
    threading.stack_size(size)
    yield "random", (random.random(), random.getrandbits(64))
    yield "random of the system", os.urandom(8)
    yield "decimal", str(decimal.getcontext())
    yield "socket.getdefaulttimeout()", socket.getdefaulttimeout()
    root = logging.getLogger()
    yield "logging", (root.level, len(root.handlers), logging.root.manager.disable)
    process: Any = multiprocessing.current_process()
    yield "multiprocessing name", process.name
    yield "multiprocessing daemon", process.daemon
    yield "multiprocessing key", bytes(process.authkey)
    yield "multiprocessing children", multiprocessing.active_children()
    yield "multiprocessing parent", repr(multiprocessing.parent_process())
    yield "multiprocessing method", multiprocessing.get_start_method(allow_none=True)
    yield "select works", select.select([], [], [], 0) == ([], [], [])


def _filter(each: Any) -> Any:
    action, message, category, module, line = each
    patterns = [getattr(it, "pattern", it) for it in (message, module)]
    return action, patterns[0], f"{category.__module__}.{category.__qualname__}", patterns[1], line
