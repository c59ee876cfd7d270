"""What a program may change of itself while it runs."""

from __future__ import annotations

import contextlib
import decimal
import faulthandler
import gc
import io
import locale
import logging
import multiprocessing
import os
import re
import resource
import signal
import socket
import sys
import threading
import time
import tracemalloc
import warnings


def everything_of_the_interpreter() -> None:
    """All that Python lets one change of the interpreter."""
    sys.path[:0] = ["/nowhere", "relative", "/n\udcffwhere"]
    sys.argv[1:] = ["other", "arguments \udcff"]
    sys.orig_argv.append("more")
    sys.warnoptions.append("ignore")
    sys._xoptions["mine"] = "5"
    sys._xoptions["flag"] = True
    sys.setrecursionlimit(1234)
    sys.setswitchinterval(0.0625)
    sys.set_int_max_str_digits(1234)
    sys.dont_write_bytecode = not sys.dont_write_bytecode
    sys.setdlopenflags(sys.getdlopenflags() | os.RTLD_GLOBAL)
    sys.set_coroutine_origin_tracking_depth(3)
    warnings.filterwarnings("ignore", "a|b", UserWarning, r"module\b", 7)
    warnings.filters.insert(0, ("error", re.compile("X", re.I), Holder.HeldWarning, None, 0))
    warnings.simplefilter("once", UnicodeWarning, append=True)
    gc.disable()
    gc.set_threshold(1, 2, 3)
    threading.stack_size(1 << 20)
    socket.setdefaulttimeout(12.5)
    faulthandler.enable()
    tracemalloc.start(3)
    if sys.__stdout__ is not None:
        sys.__stdout__.reconfigure(errors="replace", line_buffering=True, write_through=True)
    multiprocessing.set_start_method("spawn")
    sys.modules["__main__"].__doc__ = "Something else."


class Holder:
    """Has a class whose name has a dot."""

    class HeldWarning(UserWarning):
        """Is not built in."""


def everything_of_the_process() -> None:
    """All that the system lets a process change of itself, except its rights."""
    os.environ["ADDED"] = "value \udcff"
    os.environb[b"EMPTY"] = b""
    os.environ["LC_TIME"] = "C"
    os.environ["TZ"] = "XYZ-3:30"
    time.tzset()
    os.environ.pop("HOME", None)
    os.mkdir("other")
    os.chdir("other")
    os.umask(0o137)
    os.setpgid(0, 0)
    os.nice(3)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 400))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_NUMERIC, "C.UTF-8")
    locale.setlocale(locale.LC_CTYPE, "C")


def variables_of_interpreters() -> None:
    """What would change an interpreter that is started, and does not change this one."""
    for name in ("HASHSEED=0", "OPTIMIZE=2", "WARNINGS=error", "DEVMODE=1", "UTF8=1", "PATH=/a"):
        key, _, value = name.partition("=")
        os.environ[f"PYTHON{key}"] = value
    os.environ["PYTHONHOME"] = "/nowhere"
    os.environ["PYTHONEXECUTABLE"] = "/nowhere"
    os.environ["LC_ALL"] = "C"


def signals() -> None:
    """Which signals are ignored, or kill."""
    for name in ("SIGINT", "SIGHUP", "SIGUSR1", "SIGTERM", "SIGCHLD", "SIGQUIT"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def handlers() -> None:
    """Handlers of the program's own, and signals that are blocked."""
    for name in ("SIGHUP", "SIGUSR1", "SIGTERM", "SIGCHLD"):
        signal.signal(getattr(signal, name), lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGTERM, signal.SIGINT})


def remove_folder() -> None:
    """The current folder is removed."""
    os.mkdir("removed")
    os.chdir("removed")
    os.rmdir("../removed")


def rights() -> None:
    """Gives some rights up; those that are needed to read files stay."""
    os.setgroups([1234, 77])
    os.setresgid(77, 77, 77)
    os.setresuid(1234, 0, 0)


def descriptors() -> None:
    """Opens some more, one of them to be inherited."""
    for number in (150, 151):
        opened = os.open(os.devnull, os.O_RDONLY)
        os.dup2(opened, number, inheritable=number == 150)
        os.close(opened)


def objects() -> None:
    """What is made of objects of the program's own, and does not travel."""
    sys.meta_path.append(Finder())
    sys.path_hooks.append(Finder)
    sys.excepthook = lambda *arguments: None
    sys.setprofile(lambda frame, event, argument: None)
    decimal.getcontext().prec = 5
    logging.getLogger().setLevel(logging.DEBUG)
    sys.stdout = io.StringIO()


class Finder:
    """Finds nothing."""

    def __init__(self, path: str = "") -> None:
        if path:
            raise ImportError(path)

    def find_spec(self, *arguments: object) -> None:
        """Finds nothing."""
