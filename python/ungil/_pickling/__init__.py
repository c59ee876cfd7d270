"""How functions, arguments and results travel between processes, those of ``__main__`` included.

Worker processes are not forked from the user's process and never run its main script. What an
importable module holds travels by reference, as pickle does it. What ``__main__`` holds travels
by reference too, but together with *definitions*: for each name of ``__main__`` that is needed,
its value. A worker has one ``__main__`` and applies there the definitions that it has not applied
yet, so that functions, the initializer and classes share one namespace as they do in the user's
process.

============ ==================================================================================
``encoder``  the parent's side: functions and arguments, with the definitions that they need
``guards``   what must not have changed for something written down to be still what it was
``pickler``  pickling as the standard library does, and also what no module holds
``loading``  what such pickles are loaded with; the namespace of a worker
``classes``  the classes that travelled, so that each stays one class
``names``    what another process can find by its name, and the names that code uses
============ ==================================================================================

A worker's first task waits for what is imported here, so each name is taken from its module when it
is asked for. cloudpickle, which takes longest, is loaded only where something travels by value, and
not to load it again; and ``pickle`` nowhere, of which the part that is written in C does.
"""

from __future__ import annotations

import sys

# Type checkers take this name for true; importing typing would slow every worker's start.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from ungil._pickling.encoder import Encoder as Encoder
    from ungil._pickling.guards import guards_hold as guards_hold
    from ungil._pickling.loading import Definition as Definition
    from ungil._pickling.loading import Namespace as Namespace
    from ungil._pickling.pickler import dumps_result as dumps_result

_HOMES = {
    "Encoder": "encoder",
    "Namespace": "loading",
    "dumps_result": "pickler",
    "guards_hold": "guards",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    full = f"{__name__}.{home}"
    __import__(full)
    value = globals()[name] = getattr(sys.modules[full], name)
    return value
