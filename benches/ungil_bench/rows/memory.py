"""An idle worker's own memory."""

from __future__ import annotations

from ungil_bench import work
from ungil_bench.readings import own_memory
from ungil_bench.rows.row import Answer, Figure, Request, Row, opened, processes


def memory(request: Request) -> Answer:
    """What a worker that has run one no-op shares with nobody."""
    with opened(request.peer, request.sizes["workers"]):
        # The question who it is is the first call and costs what a no-op costs.
        worker = request.peer.call(work.identity)
        own = own_memory(worker)
    figures = {
        "own": own.total,
        "anonymous": own.anonymous,
        "files": own.files,
        "shared": own.shared,
    }
    return Answer(1, figures)


MEMORY = Row(
    "memory",
    "The unique set size (private clean and dirty pages) of a worker that has run one call. A bare "
    "interpreter and a fork of one say how much the interpreter itself needs.",
    (
        Figure("own", "idle worker's own memory", "B"),
        Figure("anonymous", "idle worker's own memory: heap, stacks and the like", "B"),
        Figure("files", "idle worker's own memory: pages of program and libraries", "B"),
        Figure("shared", "idle worker's own memory: made for sharing, mapped by nobody else", "B"),
    ),
    memory,
    takes=processes,
    process="own",
)
