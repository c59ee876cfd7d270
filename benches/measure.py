"""The process that one peer is measured in; the benchmarks start it.

    measure.py probe NAME              says whether the peer can be had, and in which versions
    measure.py start NAME WORKERS      measures the first result of this interpreter
    measure.py serve NAME              measures whatever is asked for on standard input

Each peer has a process to itself, so that nobody's threads, memory or imports are in another's way.
Nothing is imported here that a peer might need for its start.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    command, name, *more = sys.argv[1:]
    if command == "start":
        from ungil_bench.first import start

        answer = start(name, int(more[0]))
        import json

        print(json.dumps(answer), flush=True)
    else:
        from ungil_bench import serve

        serve.probe(name) if command == "probe" else serve.serve(name)
