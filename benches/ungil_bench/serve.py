"""Answers what the benchmark asks of a peer, in lines of JSON."""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import sys
from dataclasses import asdict
from typing import IO, Any

from ungil_bench import peers, rows
from ungil_bench.rows.row import Request


def probe(name: str) -> None:
    """Says which versions a peer has and which ways it lacks, or why it is not there."""
    answers = _answers()
    peer = peers.find(name)
    try:
        peer.load()
        versions = {package: importlib.metadata.version(package) for package in peer.packages}
        answer: dict[str, Any] = {"versions": versions, "lacks": peer.lacks()}
    except ImportError as error:
        answer = {"missing": _sentence(error)}
    print(json.dumps(answer), file=answers)


def serve(name: str) -> None:
    """Measures until nothing is asked any more."""
    answers = _answers()
    peer = peers.find(name)
    peer.load()
    for line in sys.stdin:
        asked = json.loads(line)
        row = rows.find(asked["row"])
        gc.collect()
        try:
            request = Request(peer, asked["way"], asked["sizes"], asked["point"])
            answer = asdict(row.measure(request))
        except Exception as error:
            answer = {"error": _sentence(error)}
        print(json.dumps(answer), file=answers)


def _answers() -> IO[str]:
    """Where they go: whatever a peer or its workers print must not come between them."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


def _sentence(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__
