"""No executor: what the machine, the interpreter and plain processes do by themselves."""

from __future__ import annotations

from ungil_bench.peers.peer import Peer
from ungil_bench.work import array, touch

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Bare(Peer):
    """Needs neither an import nor a pool."""

    def load(self) -> None:
        pass

    def open(self, workers: int) -> None:
        pass

    def close(self) -> None:
        pass


class Loop(Bare):
    """What the loop costs that a pool would replace."""

    name = "a loop, no executor"
    only = ("map",)

    def map(self, function: Any, items: Sequence[Any]) -> None:
        for item in items:
            function(item)


class Copy(Bare):
    """One copy into memory that is there already."""

    name = "one copy, no executor"
    only = ("argument", "result")
    packages = ("numpy",)

    def load(self) -> None:
        import numpy

        self.numpy = numpy

    def open(self, workers: int) -> None:
        self.target: Any = None

    def close(self) -> None:
        self.target = None

    def call(self, function: Any, *arguments: Any) -> Any:
        if function is touch:
            return touch(self._copied(*arguments))
        return self._copied(array(*arguments))

    def _copied(self, source: Any) -> Any:
        if self.target is None:
            self.target = self.numpy.ones_like(source)
        self.numpy.copyto(self.target, source)
        return self.target


class PipeAndBack(Bare):
    """One byte through a pipe and back: two system calls and a wake-up on each side, and no more.

    After a rest the machine's caches are cold and its CPUs asleep; this is what that alone costs.
    """

    name = "a byte through a pipe and back, no executor"
    only = ("trip", "busy", "pause")

    def open(self, workers: int) -> None:
        import os

        there, ours = os.pipe()
        back, theirs = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ours)
            os.close(back)
            while os.read(there, 1):
                os.write(theirs, b".")
            os._exit(0)
        os.close(there)
        os.close(theirs)
        self.ours, self.back = ours, back

    def close(self) -> None:
        import os

        os.close(self.ours)
        os.close(self.back)
        os.waitpid(self.pid, 0)

    def call(self, function: Any, *arguments: Any) -> Any:
        import os

        os.write(self.ours, b".")
        os.read(self.back, 1)


class PlainProcesses(Bare):
    """Processes that get their whole share of the work at once, the largest tasks first.

    No executor can do better on the same machine: it does not know how long tasks will take.
    """

    name = "plain processes, no executor"
    only = ("speed_up", "skewed")
    burst_ways = ("shares",)

    def load(self) -> None:
        import multiprocessing

        self.context = multiprocessing.get_context("fork")

    def open(self, workers: int) -> None:
        self.pipes = []
        self.processes = []
        for _ in range(workers):
            ours, theirs = self.context.Pipe()
            process = self.context.Process(target=_work_shares, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.send(None)
        for process in self.processes:
            process.join()

    def shares(self, function: Any, items: Sequence[Any]) -> None:
        for pipe, share in zip(self.pipes, shares(items, len(self.pipes)), strict=True):
            pipe.send((function, share))
        for pipe in self.pipes:
            pipe.recv()


def shares(items: Sequence[float], workers: int) -> list[list[Any]]:
    """The items dealt to workers, the largest first, each to who has the least so far."""
    dealt: list[list[Any]] = [[] for _ in range(workers)]
    totals = [0.0] * workers
    for item in sorted(items, reverse=True):
        least = totals.index(min(totals))
        dealt[least].append(item)
        totals[least] += item
    return dealt


def _work_shares(pipe: Any) -> None:
    while (message := pipe.recv()) is not None:
        function, share = message
        for item in share:
            function(item)
        pipe.send(None)


class BareInterpreter(Bare):
    """An interpreter that has been started for nothing, and waits."""

    name = "a bare interpreter, no executor"
    only = ("memory",)
    _source = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"

    def open(self, workers: int) -> None:
        import subprocess
        import sys

        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", self._source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()

    def call(self, function: Any, *arguments: Any) -> Any:
        """Only who it is can be asked."""
        return self.pid


class BareFork(BareInterpreter):
    """A fork of one, that has run one function: what forking itself leaves to a process."""

    name = "a fork of a bare interpreter"
    _source = (
        "import os, sys\n"
        "if os.fork():\n"
        "    os.wait()\n"
        "else:\n"
        "    (lambda: None)()\n"
        "    print(os.getpid(), flush=True)\n"
        "    sys.stdin.read()\n"
    )


def peers() -> list[Peer]:
    return [Loop(), Copy(), PipeAndBack(), PlainProcesses(), BareInterpreter(), BareFork()]
