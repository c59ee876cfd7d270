"""Fixtures: executors of every kind, and where their tasks meet the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from executors.kinds import KINDS, PROCESSES, THREADS, Kind
from executors.rendezvous import SOON_S, Gate, Mailbox

Make = Callable[..., Any]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Lets tests fork, whatever other threads there are: that choice is the test's."""
    # From 3.12 on Python warns about it.
    item.add_marker(pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"))


class Rendezvous:
    """Makes the gates and mailboxes of one test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Gate | Mailbox] = []

    def gate(self) -> Gate:
        """A new gate, closed."""
        return self._add(Gate(self._folder / f"gate{len(self._made)}"))

    def mailbox(self) -> Mailbox:
        """A new mailbox, empty."""
        return self._add(Mailbox(self._folder / f"mailbox{len(self._made)}"))

    def open_all(self) -> None:
        """Opens all gates, so that a test that has failed keeps no task waiting."""
        for made in self._made:
            if isinstance(made, Gate):
                made.open()

    def close(self) -> None:
        """Lets go of everything."""
        for made in self._made:
            made.close()

    def _add(self, made: Any) -> Any:
        self._made.append(made)
        return made


@pytest.fixture
def rendezvous(tmp_path: Path) -> Iterator[Rendezvous]:
    made = Rendezvous(tmp_path)
    yield made
    made.open_all()
    made.close()


@pytest.fixture
def gate(rendezvous: Rendezvous) -> Gate:
    return rendezvous.gate()


@pytest.fixture
def mailbox(rendezvous: Rendezvous) -> Mailbox:
    return rendezvous.mailbox()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test for every kind, or for those that its marker names."""
    if "kind" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("kinds")
    kinds: list[Kind] = list(marker.args) if marker else KINDS
    metafunc.parametrize("kind", kinds, ids=lambda kind: kind.name, scope="session", indirect=True)


@pytest.fixture(scope="session")
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture
def make(kind: Kind, rendezvous: Rendezvous) -> Iterator[Make]:
    """Makes executors of the kind, which the test may shut down or leave."""
    made = []

    def make(max_workers: int | None = 1, **options: Any) -> Any:
        made.append(kind.make(max_workers, **options))
        return made[-1]

    yield make
    rendezvous.open_all()
    while made:
        made.pop().shutdown(cancel_futures=True)


class _Shared:
    """An executor for many tests; a new one if a test has spoilt it."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._executor = kind.make(2)

    def executor(self) -> Any:
        try:
            self._executor.submit(int).result(SOON_S)
        except Exception:
            self.close()
            self._executor = self._kind.make(2)
        return self._executor

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def _shared(kind: Kind) -> Iterator[_Shared]:
    shared = _Shared(kind)
    yield shared
    shared.close()


@pytest.fixture
def pool(_shared: _Shared, rendezvous: Rendezvous) -> Iterator[Any]:
    """An executor with two workers, shared by tests; nobody shuts it down or hurts it."""
    yield _shared.executor()
    rendezvous.open_all()


only_threads = pytest.mark.kinds(THREADS)
only_processes = pytest.mark.kinds(*PROCESSES)
