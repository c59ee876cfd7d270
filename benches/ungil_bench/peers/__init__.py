"""The executors that are measured side by side, one file each.

A peer is a small class: how its pool is opened and closed, how one call goes through it, and the
ways in which it takes many. Name it in ``PEERS``, in the order of the tables.
"""

from __future__ import annotations

from ungil_bench.peers import bare, stdlib
from ungil_bench.peers.dask import Dask
from ungil_bench.peers.joblib import Joblib
from ungil_bench.peers.loky import Loky
from ungil_bench.peers.mpire import Mpire
from ungil_bench.peers.ours import UngilProcesses, UngilThreads
from ungil_bench.peers.pebble import Pebble
from ungil_bench.peers.peer import Peer
from ungil_bench.peers.ray import Ray

PEERS: list[Peer] = [
    UngilProcesses(),
    *stdlib.processes(),
    stdlib.MultiprocessingPool(),
    Loky(),
    Joblib(),
    Mpire(),
    Pebble(),
    Ray(),
    Dask(),
    *bare.peers(),
    UngilThreads(),
    stdlib.StdlibThreads(),
]


def find(name: str) -> Peer:
    return next(peer for peer in PEERS if peer.name == name)
