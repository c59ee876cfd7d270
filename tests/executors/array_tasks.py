"""What workers do with shared arrays."""

from __future__ import annotations

from typing import Any

import ungil
from ungil import _core

from executors.rendezvous import Gate, Mailbox

kept: list[Any] = []


def make(shape: Any, fill: Any, dtype: Any = float) -> Any:
    """A shared array of the worker's."""
    array = ungil.empty(shape, dtype)
    array[...] = fill
    return array


def make_and_keep(length: int) -> Any:
    """The same, which the worker keeps as well."""
    kept[:] = [make(length, 1.0)]
    return kept[0][length // 2 :]


def keep(array: Any) -> None:
    kept[:] = [array]


def forget() -> int:
    """Lets go of what was kept; returns the worker's own bytes that are in use then."""
    kept.clear()
    return _core.shared_bytes()


def read_kept(index: int) -> Any:
    return kept[0][index].item()


def write_kept(index: int, value: Any) -> None:
    kept[0][index] = value


def write(array: Any, value: Any) -> Any:
    """Overwrites an array; returns what it began with."""
    before = array.flat[0].item()
    array[...] = value
    return before


def write_all(arrays: list[Any], named: dict[str, Any], value: Any) -> bool:
    """Overwrites the first of several arrays; returns whether the others have changed with it."""
    arrays[0][...] = value
    return all((other == value).all() for other in [*arrays, *named.values()])


def is_writable(*arrays: Any) -> list[bool]:
    return [array.flags.writeable for array in arrays]


def part(array: Any, start: int, stop: int) -> Any:
    return array[start:stop]


def wait_and_sum(array: Any, mailbox: Mailbox, gate: Gate) -> float:
    mailbox.post(array[0].item())
    gate.wait()
    return float(array.sum())


def fail_with(array: Any) -> None:
    raise ValueError(array)


def write_in_own_worker(array: Any) -> tuple[float, float]:
    """Lets a worker of this worker overwrite an array, and one that this one makes."""
    own = make(10, 1.0)
    with ungil.ProcessPoolExecutor(1) as executor:
        executor.submit(write, array, 5.0).result()
        executor.submit(write, own, 5.0).result()
    return float(array[0]), float(own[0])
