"""Functions that say when they have begun, and then never end."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time


def announce() -> None:
    """Appends the number of this process to the file that the test watches."""
    file = os.open(os.environ["UNGIL_TEST_BEGAN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{os.getpid()}\n".encode())
    os.close(file)


def never_returns(item: int) -> int:
    announce()
    while True:
        time.sleep(3600)


def spins(item: int) -> int:
    announce()
    while True:
        pass


async def never_wakes(item: int) -> int:
    import asyncio

    announce()
    while True:
        await asyncio.sleep(3600)


def returns(item: int) -> int:
    announce()
    return item


def never_returns_in_a_process(item: int) -> int:
    if multiprocessing.parent_process() is not None:
        never_returns(item)
    return item


def never_returns_in_a_thread(item: int) -> int:
    if threading.current_thread() is not threading.main_thread():
        never_returns(item)
    return item
