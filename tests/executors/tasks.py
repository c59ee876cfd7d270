"""What the tests let executors do; a module of its own, for workers to import."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import dataclasses
import enum
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from executors.rendezvous import SOON_S, Gate, Mailbox


def echo(value: Any) -> Any:
    return value


def double(item: int) -> int:
    return item * 2


def add(left: int, right: int) -> int:
    return left + right


def capture(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def where() -> tuple[int, int]:
    """The process and the thread that run this."""
    return os.getpid(), threading.get_ident()


def thread_name() -> str:
    return threading.current_thread().name


# Synchronisation


def post(mailbox: Mailbox, line: object = "") -> None:
    mailbox.post(line)


def post_and_wait(mailbox: Mailbox, gate: Gate, result: Any = None) -> Any:
    """Says that it has begun and who it is, and waits."""
    mailbox.post(os.getpid())
    return gate.wait(result)


def post_and_wait_if(item: int, mailbox: Mailbox, gate: Gate, waiting: int) -> int:
    """Says that it has begun with an item; waits if it is a certain one."""
    mailbox.post(item)
    if item >= waiting:
        gate.wait()
    return item


def fail_or_post_and_wait(item: int, mailbox: Mailbox, gate: Gate) -> int:
    """Fails with the first item, waits with the others."""
    if item == 0:
        raise Trouble("at", 0)
    mailbox.post(item)
    return gate.wait(item)


def sleep_and_post(seconds: float, mailbox: Mailbox, line: object = "") -> None:
    time.sleep(seconds)
    mailbox.post(line)


def post_pid_and_wait(mailbox: Mailbox, gate: Gate) -> int:
    mailbox.post(os.getpid())
    gate.wait()
    return os.getpid()


# Exceptions


class Trouble(Exception):
    """An exception with everything that one can have."""

    def __init__(self, text: str, number: int = 0) -> None:
        super().__init__(text, number)
        self.number = number


class NeedsTwo(Exception):
    """Can be pickled, but not rebuilt: of its two arguments one is kept."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


def raise_trouble(text: str = "in vain", number: int = 0) -> None:
    raise Trouble(text, number)  # the line of the trouble


def raise_this(exception: BaseException) -> None:
    raise exception


def raise_from(text: str) -> None:
    try:
        raise LookupError("the first trouble")
    except LookupError as error:
        raise Trouble(text) from error


def raise_with_note(text: str) -> None:
    error = Trouble(text)
    error.add_note("a note on it")
    error.extra = {"attribute": 1}  # type: ignore[attr-defined]
    raise error


def raise_group() -> None:
    raise ExceptionGroup("several", [ValueError("one"), Trouble("two", 2)])


def raise_unpicklable() -> None:
    raise ValueError("the first trouble", threading.Lock())


def raise_not_rebuilt() -> None:
    raise NeedsTwo("the first trouble", "a reason")


def raise_not_rebuilt_at(item: int, bad: int) -> int:
    if item == bad:
        raise_not_rebuilt()
    return item


def fails_at(item: int, bad: int) -> int:
    if item == bad:
        raise Trouble("at", item)
    return item


# What cannot travel


class FailsWhenPickled:
    def __reduce__(self) -> Any:
        raise pickle.PicklingError("not to be pickled")


class FailsWhenRebuilt:
    """Is pickled, but raises when it is unpickled."""

    def __init__(self, exception: BaseException | None = None) -> None:
        self.exception = exception or pickle.UnpicklingError("not to be rebuilt")

    def __reduce__(self) -> Any:
        return raise_this, (self.exception,)


class ExitsWhenRebuilt(FailsWhenRebuilt):
    def __init__(self) -> None:
        super().__init__(SystemExit(3))


def make_instance(class_: Callable[[], Any]) -> Any:
    return class_()


# Deaths


def kill_me(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    # The signal is for this process, not for this thread; it ends nothing but on time.
    time.sleep(SOON_S)


def kill_me_with(_: object) -> None:
    kill_me()


def wait_and_kill_me(mailbox: Mailbox, gate: Gate) -> None:
    mailbox.post("began")
    gate.wait()
    kill_me()


def post_and_kill_me_if(item: int, bad: int, mailbox: Mailbox) -> int:
    mailbox.post(item)
    return kill_me_if(item, bad)


def kill_me_if(item: int, bad: int) -> int:
    if item == bad:
        kill_me()
    return item


def exit_me(code: int) -> None:
    os._exit(code)


def post_signal_and_wait(number: int, mailbox: Mailbox, gate: Gate) -> None:
    """Says when a signal has come, and ends."""

    def handler(number: int, _: object) -> None:
        mailbox.post(signal.Signals(number).name)
        os._exit(0)

    signal.signal(number, handler)
    mailbox.post("began")
    gate.wait()


# State of workers

STATE: Any = None


def set_state(value: Any) -> None:
    global STATE
    STATE = value


def read_state() -> Any:
    return STATE


def set_state_and_post(mailbox: Mailbox, value: Any) -> None:
    set_state(value)
    mailbox.post("/".join(map(str, where())))


def fail_to_initialize() -> None:
    raise Trouble("the initializer's")


LOCAL = threading.local()


def count_in_thread() -> int:
    """How often this thread has called this."""
    LOCAL.count = getattr(LOCAL, "count", 0) + 1
    return LOCAL.count


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


def read_and_set_variable(value: str) -> str:
    seen = VARIABLE.get()
    VARIABLE.set(value)
    return seen


def use_shared(name: str) -> str:
    """Uses what the initializer was given, something of multiprocessing's."""
    if name in ("Lock", "Semaphore"):
        with STATE:
            pass
    elif name == "Event":
        STATE.set()
    else:
        STATE.put(name)
    return name


BARRIER = threading.Barrier(4)


def meet_three_others() -> tuple[int, int]:
    """Returns if four threads of a process are in here at once."""
    BARRIER.wait(SOON_S)
    return where()


# Executors in tasks


def in_nested(kind_name: str, item: int) -> tuple[int, int]:
    """Runs a task in an executor of its own; who ran this and what came out."""
    from executors import kinds

    with kinds.find(kind_name).make(1) as nested:
        return os.getpid(), nested.submit(double, item).result(SOON_S)


# Coroutine functions


async def double_async(item: int) -> int:
    await asyncio.sleep(0)
    return item * 2


async def raise_async(text: str) -> None:
    await asyncio.sleep(0)
    raise Trouble(text)


LOOPS: list[asyncio.AbstractEventLoop] = []


async def index_of_loop() -> int:
    """Which of the event loops of this process this is; 0 is the first."""
    loop = asyncio.get_running_loop()
    if not any(loop is each for each in LOOPS):
        LOOPS.append(loop)
    return [loop is each for each in LOOPS].index(True)


async def gather_doubles(items: list[int]) -> list[int]:
    return await asyncio.gather(*map(double_async, items))


class Doubler:
    def __init__(self, factor: int = 2) -> None:
        self.factor = factor

    def multiply(self, item: int) -> int:
        return item * self.factor

    async def multiply_async(self, item: int) -> int:
        await asyncio.sleep(0)
        return item * self.factor

    def __call__(self, item: int) -> int:
        return item * self.factor


# Values


@dataclasses.dataclass
class Point:
    x: float
    y: float
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    inner: Point


class Colour(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Flags(enum.Flag):
    A = enum.auto()
    B = enum.auto()


class MyInt(int):
    pass


class MyFloat(float):
    pass


class MyStr(str):
    label = "none"


class MyBytes(bytes):
    pass


class MyList(list):  # type: ignore[type-arg]
    pass


class MyDict(dict):  # type: ignore[type-arg]
    pass


class MyTuple(tuple):  # type: ignore[type-arg]
    __slots__ = ()


Pair = collections.namedtuple("Pair", ["left", "right"])


def make_bytes(size: int) -> bytes:
    return b"\xa5" * size


def length(value: Any) -> int:
    return len(value)


class Tracked:
    """Something to which weak references can be made."""

    def method(self) -> None:
        pass


def make_tracked(_: object = None) -> Tracked:
    return Tracked()


def post_deaths(value: Tracked, mailbox: Mailbox) -> None:
    """Says when the worker lets go of an argument."""
    import weakref

    weakref.finalize(value, mailbox.post, "gone").atexit = False


# NumPy arrays


def sum_and_overwrite(array: Any) -> tuple[float, bool]:
    """Writes to its argument; its sum before, and whether it could be written to."""
    total = float(array.sum())
    array[...] = 0
    return total, bool(array.flags.writeable)


def make_array(size: int) -> Any:
    import numpy as np

    return np.arange(size, dtype=np.uint8)


def scale(array: Any, factor: int) -> Any:
    return array * factor
