"""Functions that do everything a function under test should not do."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any


def is_in_process() -> bool:
    """Whether this is a worker process."""
    return multiprocessing.parent_process() is not None


def is_in_thread() -> bool:
    """Whether this is a worker thread of the caller's process."""
    return not is_in_process() and threading.current_thread() is not threading.main_thread()


def harmless(item: int) -> int:
    return item + 1


def two_of_them(one: int, other: int) -> int:
    return one + other


def generator(item: int) -> Iterator[int]:
    yield item


async def async_generator(item: int) -> Any:
    yield item


class Quiet:
    value = 3


not_a_function = {"resize": 1}

endless = itertools.count()


# What raises.


def raises(item: int) -> int:
    raise ValueError(f"bad item {item}")


def raises_in_process(item: int) -> int:
    if is_in_process():
        raise ValueError("only in a process")
    return item


def raises_in_thread(item: int) -> int:
    if is_in_thread():
        raise ValueError("only in a thread")
    return item


def raises_for_two(item: int) -> int:
    if item == 2:
        raise LookupError("two")
    return item


async def coroutine_that_raises(item: int) -> int:
    raise ValueError("in a coroutine")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def raises_unspeakable(item: int) -> int:
    raise Unspeakable


class TwoArguments(Exception):
    """Pickles, but cannot be rebuilt: the classic mistake."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


def raises_what_cannot_be_rebuilt(item: int) -> int:
    raise TwoArguments(1, 2)


def raises_stop_iteration(item: int) -> int:
    return next(iter([]))


def raises_keyboard_interrupt(item: int) -> int:
    raise KeyboardInterrupt


# What ends its process.


def exits(item: int) -> int:
    sys.exit("no such order")


async def coroutine_that_exits(item: int) -> int:
    sys.exit(3)


def exits_at_once(item: int) -> int:
    os._exit(3)


def kills_itself(item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def crashes(item: int) -> int:
    ctypes.string_at(0)
    return item


def kills_its_process(item: int) -> int:
    if is_in_process():
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def forks(item: int) -> int:
    os.fork()
    return item


def forks_and_says_so(item: int) -> int:
    with open(os.environ["UNGIL_TEST_CALLS"], "a") as calls:
        calls.write("called\n")
    os.fork()
    return item


def forks_and_ends_the_child(item: int) -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return item


# What never returns.


def spins(item: int) -> int:
    while True:
        pass


def spins_with_the_gil(item: int) -> int:
    # One call in C that never looks at signals or gives the GIL up.
    return sum(itertools.repeat(0))


def sleeps_and_ignores_signals(item: int) -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with contextlib.suppress(ValueError):
            signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(3600)


def deadlocks_in_thread(item: int) -> int:
    if is_in_thread():
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
    return item


def deadlocks_in_process(item: int) -> int:
    if is_in_process():
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
    return item


# What cannot be sent.

unnamed = lambda item: item  # noqa: E731


def _holding(lock: Any) -> Any:
    def inner(item: int) -> int:
        with lock:
            return item

    return inner


holds_a_lock = _holding(threading.Lock())


def returns_a_lambda(item: int) -> Any:
    return lambda: item


def returns_a_lock(item: int) -> Any:
    return threading.Lock()


async def _waits() -> None:
    await asyncio.sleep(0)


def returns_a_coroutine(item: int) -> Any:
    return _waits()


def raises_a_book(item: int) -> int:
    raise ValueError("word " * 1_000_000)


def raises_a_local_class_in_process(item: int) -> int:
    class LocalError(Exception):
        pass

    if is_in_process():
        raise LocalError("local")
    return item


def returns_a_generator(item: int) -> Any:
    return (item for _ in range(3))


# What looks well and is not.


@functools.cache
def cached(item: int) -> int:
    return item + 1


_remembered: dict[int, int] = {}


def remembers(item: int) -> int:
    if item not in _remembered:
        time.sleep(0.01)
        _remembered[item] = item + 1
    return _remembered[item]


def names_its_thread(item: int) -> str:
    return "worker" if is_in_thread() and item == 2 else "caller"


_calls = itertools.count()


def counts_its_calls(item: int) -> int:
    return next(_calls)


def prints(item: int) -> int:
    print("\x1b[31mprinted by the task")
    print("and this on standard error", file=sys.stderr)
    return item


def prints_much(item: int) -> int:
    sys.stdout.write("x" * 1_000_000 + "\n")
    sys.stdout.flush()
    return item


def asks(item: int) -> str:
    return input("your name? ")


def reads_standard_input(item: int) -> str:
    return sys.stdin.read()


# What reaches out of its process.


def leaves_a_process(item: int) -> int:
    subprocess.Popen(["sleep", "3600"])
    return item


def leaves_a_daemon(item: int) -> int:
    """Forks twice, in a session of its own: the classic way out of reach."""
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(3600)
        os._exit(0)
    os.waitpid(child, 0)
    return item


def writes_into_all_descriptors(item: int) -> int:
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            os.set_blocking(int(name), False)
            os.write(int(name), b"\xff" * 64)
    return item


def closes_all_descriptors(item: int) -> int:
    os.closerange(0, 4096)
    return item


def changes_folder(item: int) -> int:
    os.chdir("/")
    return item
