"""A program that writes down what a fork of it sees, and what workers of ungil's see.

Its arguments: the file to write to, what it changes before it has a pool, and what after.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys

# Not every way to start a script has it there.
HERE = os.path.dirname(os.path.abspath(__file__))
if HERE not in sys.path:
    sys.path.insert(0, HERE)

import changes  # noqa: E402
import ungil  # noqa: E402
import visible  # noqa: E402


def main(path: str, early: str, late: str) -> None:
    file = open(path, "w", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
    os.set_inheritable(file.fileno(), True)
    for name in early.split():
        getattr(changes, name)()
    contexts = {"zygote": None, "fork": multiprocessing.get_context("fork")}
    if late:
        with ungil.ProcessPoolExecutor(1) as executor:
            executor.submit(int).result()
        for name in late.split():
            getattr(changes, name)()
    found = {"child": seen_by_child()}
    for name in ("zygote", "zygote again", "fork"):
        if name == "zygote again" and (early or late):
            continue
        context = contexts[name.split()[0]]
        with ungil.ProcessPoolExecutor(1, mp_context=context) as executor:
            found[name] = executor.submit(visible.everything).result()
    json.dump(found, file)
    file.close()


def seen_by_child() -> dict[str, str]:
    """What a fork of this process sees."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        with open(writing, "w", encoding="utf-8", errors="surrogateescape") as file:
            json.dump(visible.everything(), file)
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8", errors="surrogateescape") as file:
        found = json.load(file)
    # Where SIGCHLD is ignored, nothing is left of it.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
